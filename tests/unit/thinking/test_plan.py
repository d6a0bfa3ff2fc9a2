"""What a call sends: the policy, the model, the server, the user's body, the session and the lessons together."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import ChatFacts, Sampling, chat_facts
from qwen3_rag.thinking import (
    DIALECTS,
    Call,
    Decision,
    Endpoint,
    Evidence,
    Fix,
    Learned,
    Plan,
    ThinkingBudget,
    ThinkingPolicy,
    heal,
    plan,
)
from qwen3_rag.thinking.bodies import merge, overlay, read_amount, read_switch
from tests.unit.thinking.sdk import dashscope_body, refused

URLS = {"dashscope": "https://dashscope.aliyuncs.com/compatible-mode/v1", "openrouter": "https://openrouter.ai/api/v1"}
TOOLS = {"has_tools": True, "tool_choice": "required"}
HYBRID = ChatFacts(family="hybrid", thinking="hybrid", thinks_by_default=True)
OFF = ChatFacts(family="off", thinking="hybrid", thinks_by_default=False)
ALWAYS = ChatFacts(family="always", thinking="always", thinks_by_default=True)
NEVER = ChatFacts(family="never", thinking="never", thinks_by_default=False)
UNKNOWN = ChatFacts(family="unknown")


def call(facts: ChatFacts | str = HYBRID, thinking: Any = None, dialect: str = "dashscope", **options: Any) -> Call:
    model = facts if isinstance(facts, str) else facts.family
    return Call(
        model=model,
        endpoint=Endpoint(URLS.get(dialect, "http://localhost:8000/v1"), DIALECTS[dialect], SecretStr("EMPTY")),
        facts=chat_facts(model) if isinstance(facts, str) else facts,
        policy=ThinkingPolicy.of(thinking),
        **options,
    )


def planned(facts: ChatFacts | str = HYBRID, thinking: Any = None, dialect: str = "dashscope", **options: Any) -> Plan:
    return plan(call(facts, thinking, dialect, **options), Learned())


def taught(asked: Call, *fixes: Fix) -> Plan:
    learned = Learned()
    for fix in fixes:
        learned.add(asked.endpoint.base_url, asked.model, fix)
    return plan(asked, learned)


# ---- who decides


@pytest.mark.parametrize(
    ("thinking", "decision", "body"),
    [
        (None, Decision(None, source="default"), {}),
        (True, Decision(True, source="asked"), {"enable_thinking": True}),
        (False, Decision(False, source="asked"), {"enable_thinking": False}),
        (4000, Decision(True, budget=4000, source="asked"), {"enable_thinking": True, "thinking_budget": 4000}),
        ("low", Decision(True, "low", source="asked"), {"enable_thinking": True, "thinking_budget": 4096}),
        (
            ThinkingPolicy(budget=9),
            Decision(True, budget=9, source="asked"),
            {"enable_thinking": True, "thinking_budget": 9},
        ),
    ],
)
def test_the_user_decides(thinking, decision, body):
    made = planned(HYBRID, thinking)
    assert (made.decision.enabled, made.decision.effort, made.decision.budget, made.decision.source) == (
        decision.enabled,
        decision.effort,
        decision.budget,
        decision.source,
    )
    assert made.decision.reason
    assert made.body == body
    assert (made.notes, made.healed, made.grant) == ((), (), None)


def test_the_users_own_rule_decides():
    seen = []

    def rule(question, evidence):
        seen.append((question, evidence))
        return question == "hard"

    evidence = Evidence((0.9,))
    policy = ThinkingPolicy(auto=rule, effort="low")
    hard = planned(HYBRID, policy, question="hard", evidence=evidence).decision
    easy = planned(HYBRID, policy, question="easy").decision
    assert seen == [("hard", evidence), ("easy", None)]
    assert (hard.enabled, hard.effort, hard.source) == (True, "low", "auto")
    assert (easy.enabled, easy.effort, easy.source) == (False, None, "auto")


def test_a_rule_may_return_a_whole_decision_but_nothing_else():
    policy = ThinkingPolicy(auto=lambda question, evidence: Decision(True, budget=7, reason="because"), effort="low")
    made = planned(HYBRID, policy).decision
    assert made == Decision(True, budget=7, reason="because", source="auto")
    with pytest.raises(ConfigurationError, match="must return a bool or a Decision, got 'yes'"):
        planned(HYBRID, ThinkingPolicy(auto=lambda question, evidence: "yes"))


def test_the_documented_rule_decides():
    assert planned(HYBRID, "auto", question="Hi").decision.source == "auto"
    assert planned(HYBRID, "auto", question="Hi").decision.reason


@pytest.mark.parametrize(
    ("facts", "thinking", "enabled", "notes"),
    [
        (ALWAYS, False, True, 1),
        (ALWAYS, None, None, 0),
        (ALWAYS, True, True, 0),
        (NEVER, True, False, 1),
        (NEVER, "high", False, 1),
        (NEVER, None, False, 0),
        (NEVER, False, False, 0),
    ],
)
def test_a_model_without_a_choice_is_sent_no_switch(facts, thinking, enabled, notes):
    made = planned(facts, thinking)
    assert made.body == {}
    assert made.decision.enabled is enabled
    assert len(made.notes) == notes
    if notes:
        assert made.decision.source == "model"
        assert "could not be had" in made.notes[0]


# ---- the user's body


@pytest.mark.parametrize(
    ("facts", "dialect", "thinking", "users", "body"),
    [
        ("qwen3.8-flash", "dashscope", "low", {"thinking_budget": 9}, {"enable_thinking": True, "thinking_budget": 9}),
        (
            "qwen3.8-flash",
            "dashscope",
            9,
            {"reasoning_effort": "xhigh"},
            {"enable_thinking": True, "reasoning_effort": "xhigh"},
        ),
        (HYBRID, "dashscope", 9, {"enable_thinking": False}, {"enable_thinking": False}),
        (HYBRID, "dashscope", False, {"enable_thinking": True}, {"enable_thinking": True}),
        (HYBRID, "dashscope", 9, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        (HYBRID, "dashscope", None, {"top_k": 5}, {"top_k": 5}),
        (
            HYBRID,
            "openrouter",
            "high",
            {"reasoning": {"max_tokens": 9}},
            {"reasoning": {"enabled": True, "max_tokens": 9}},
        ),
        (HYBRID, "openrouter", 9, {"reasoning": {"effort": "low"}}, {"reasoning": {"enabled": True, "effort": "low"}}),
        (
            HYBRID,
            "openrouter",
            9,
            {"reasoning": {"exclude": True}},
            {"reasoning": {"max_tokens": 9, "exclude": True}},
        ),
        (
            HYBRID,
            "vllm",
            9,
            {"chat_template_kwargs": {"enable_thinking": False, "x": 1}},
            {"chat_template_kwargs": {"enable_thinking": False, "x": 1}},
        ),
        (
            HYBRID,
            "vllm",
            True,
            {"chat_template_kwargs": {"x": 1}},
            {"chat_template_kwargs": {"enable_thinking": True, "x": 1}},
        ),
        (HYBRID, "ollama", False, {"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        (HYBRID, "ollama", "high", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low"}}),
        (
            HYBRID,
            "deepseek",
            True,
            {"reasoning_effort": "max"},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "max"},
        ),
    ],
)
def test_the_users_body_is_merged_over_ours_and_excludes_what_it_excludes(facts, dialect, thinking, users, body):
    before = copy.deepcopy(users)
    made = planned(facts, thinking, dialect, user_body=users)
    made.body.pop("preserve_thinking", None)
    assert made.body == body
    assert users == before


@pytest.mark.parametrize(
    ("users", "decision"),
    [
        ({"enable_thinking": False}, (False, None, None)),
        ({"chat_template_kwargs": {"thinking": True}}, (True, None, None)),
        ({"thinking": {"type": "disabled"}, "thinking_budget": 5}, (False, None, None)),
        ({"reasoning": {"enabled": True, "max_tokens": 7}}, (True, None, 7)),
        ({"reasoning_effort": "none"}, (False, None, None)),
        ({"reasoning_effort": "xhigh"}, (True, None, None)),
        ({"reasoning": {"effort": "low"}}, (True, "low", None)),
        ({"thinking_budget": 7}, (None, None, 7)),
        ({"thinking_budget": True}, (None, None, None)),
    ],
)
def test_the_decision_says_what_the_users_body_does(users, decision):
    made = planned(HYBRID, None, user_body=users).decision
    assert (made.enabled, made.effort, made.budget) == decision
    assert (made.reason, made.source) == ("extra_body says so", "asked")


def test_no_note_speaks_of_a_budget_that_is_the_users_own():
    limited = ChatFacts(family="x", thinking="hybrid", max_thinking_tokens=100)
    assert planned(limited, 9999).notes != ()
    made = planned(limited, None, user_body={"thinking_budget": 9999})
    assert (made.notes, made.body) == ((), {"thinking_budget": 9999})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(
    st.sampled_from(["a", "b", "reasoning", "thinking", "enable_thinking", "thinking_budget", "chat_template_kwargs"]),
    json_values | st.dictionaries(st.sampled_from(["enable_thinking", "effort", "max_tokens", "type"]), json_values),
)


def is_within(part, whole) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_within(value, whole[key]) for key, value in part.items())
    return part == whole


@given(bodies, bodies)
def test_all_of_the_users_body_is_sent_and_nothing_is_shared(ours, users):
    before = copy.deepcopy((ours, users))
    merged = overlay(ours, users)
    assert is_within(users, merged)
    assert set(merged) <= set(ours) | set(users)
    for body in (merged, merge(ours, users)):
        json.dumps(body)
        for value in body.values():
            if isinstance(value, dict):
                value["changed"] = 1
            elif isinstance(value, list):
                value.append(1)
    assert (ours, users) == before


@given(bodies)
def test_nothing_of_the_users_changes_nothing(ours):
    assert overlay(ours, {}) == ours
    assert overlay({}, ours) == ours


def test_what_a_body_says_is_read_in_every_spelling():
    assert read_switch({}) is read_amount({}) is None
    assert read_switch({"enable_thinking": "yes", "thinking": "off", "reasoning": None}) is None
    assert read_amount({"custom_params": {"thinking_budget": 3}}) == 3
    assert read_amount({"chat_template_kwargs": {"reasoning_effort": "low"}}) == "low"


# ---- streaming


@pytest.mark.parametrize(
    ("facts", "thinking", "dialect", "stream"),
    [
        ("qwen3-8b", None, "dashscope", True),
        ("qwen3-8b", True, "modelscope", True),
        ("qwen3-8b", False, "dashscope", False),
        ("qwen3-8b", None, "vllm", False),
        ("qwq-plus", False, "dashscope", True),
        ("qwen-plus", None, "dashscope", False),
        ("qwen-plus", True, "dashscope", True),  # not a must, but an answer is cut at 300 s without an error
        ("qwen-max", True, "dashscope", False),
        (UNKNOWN, None, "dashscope", False),
        (UNKNOWN, True, "dashscope", True),
        (ChatFacts(family="x", stream_only="thinking"), None, "dashscope", True),
        (ChatFacts(family="x", thinking="never", stream_only="always"), None, "dashscope", True),
    ],
)
def test_what_must_be_streamed_is_streamed(facts, thinking, dialect, stream):
    assert planned(facts, thinking, dialect).stream is stream
    assert planned(facts, thinking, dialect, stream=True).stream is True


# ---- tools


@pytest.mark.parametrize("choice", [None, "auto", "none", False])
def test_a_free_choice_stays(choice):
    made = planned(HYBRID, None, "deepseek", has_tools=True, tool_choice=choice)
    assert (made.tool_choice, made.body, made.notes) == (choice, {}, ())


FORCED = {"type": "function", "function": {"name": "search"}}


@pytest.mark.parametrize("choice", ["required", "any", FORCED, True])
def test_a_forced_choice_is_tried_where_it_may_work(choice):
    made = planned(HYBRID, True, has_tools=True, tool_choice=choice)
    assert (made.tool_choice, made.decision.enabled, made.notes) == (choice, True, ())


@pytest.mark.parametrize("choice", ["required", FORCED])
def test_thinking_that_was_asked_for_wins_over_a_forced_choice(choice):
    made = planned(HYBRID, True, "deepseek", has_tools=True, tool_choice=choice)
    assert (made.tool_choice, made.decision.enabled) == ("auto", True)
    assert "sent as 'auto'" in made.notes[0]


@pytest.mark.parametrize("thinking", [None, ThinkingPolicy(auto=lambda question, evidence: True)])
def test_a_forced_choice_wins_over_thinking_that_nobody_asked_for(thinking):
    made = planned(HYBRID, thinking, "deepseek", has_tools=True, tool_choice=FORCED)
    assert (made.tool_choice, made.decision.enabled) == (FORCED, False)
    assert made.body == {"thinking": {"type": "disabled"}}
    assert "thinking was switched off" in made.notes[0]


def test_a_model_that_always_thinks_gets_auto():
    made = planned(ALWAYS, None, "deepseek", **TOOLS)
    assert (made.tool_choice, made.decision.enabled, len(made.notes)) == ("auto", None, 1)


def test_without_thinking_a_choice_is_forced():
    made = planned(HYBRID, False, "deepseek", **TOOLS)
    assert (made.tool_choice, made.notes) == ("required", ())


@pytest.mark.parametrize("thinking", [None, True, False])
def test_a_server_that_ignores_a_forced_choice_is_reported(thinking):
    made = planned(HYBRID, thinking, "ollama", **TOOLS)
    assert made.tool_choice == "auto"
    assert made.decision.enabled is thinking
    assert any("can't force a tool here" in note for note in made.notes)


# ---- response formats

SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}


@pytest.mark.parametrize(
    ("facts", "thinking", "dialect", "response_format", "first"),
    [
        ("qwen3.6-plus", None, "dashscope", SCHEMA, True),
        ("qwen3.6-plus", False, "dashscope", SCHEMA, False),
        ("qwen3.6-plus", True, "vllm", SCHEMA, False),
        ("qwen3.8-max", True, "dashscope", SCHEMA, False),
        ("qwen-plus", None, "dashscope", {"type": "json_object"}, False),
        ("qwen-plus", True, "dashscope", {"type": "json_object"}, True),
        ("qwen3.6-plus", True, "dashscope", {"type": "text"}, False),
        ("qwen3.6-plus", True, "dashscope", None, False),
        (UNKNOWN, True, "dashscope", SCHEMA, False),
    ],
)
def test_where_thinking_and_a_format_exclude_each_other_it_thinks_first(
    facts, thinking, dialect, response_format, first
):
    made = planned(facts, thinking, dialect, response_format=response_format)
    assert made.think_first is first
    assert made.response_format == (None if first else response_format)
    assert any("thinks first" in note for note in made.notes) is first


# ---- history, presets, reader


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("dashscope", {"preserve_thinking": True}),
        ("vllm", {"chat_template_kwargs": {"preserve_thinking": True}}),
        ("deepseek", {}),
        ("openrouter", {}),
    ],
)
def test_preserved_history_is_announced_where_the_server_wants_it(dialect, body):
    facts = ChatFacts(family="x", thinking="hybrid", history="preserve")
    assert planned(facts, None, dialect).body == body
    assert planned(facts, None, dialect).history == "preserve"
    assert planned(facts, ThinkingPolicy(history="strip"), dialect).body == {}
    assert planned(HYBRID, ThinkingPolicy(history="preserve"), dialect).body == body


SAMPLED = ChatFacts(
    family="x",
    thinking="hybrid",
    thinks_by_default=True,
    sampling_thinking=Sampling(temperature=0.6, top_p=0.95, top_k=20),
    sampling_answering=Sampling(temperature=0.7, top_k=20),
)


def test_presets_follow_the_mode_and_never_the_user():
    template = {"chat_template_kwargs": {"enable_thinking": False}}
    assert planned(SAMPLED, None, "vllm").body == {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    assert planned(SAMPLED, False, "vllm").body == {"temperature": 0.7, "top_k": 20, **template}
    assert planned(SAMPLED, None, "vllm", set_by_user=frozenset({"temperature", "top_p"})).body == {"top_k": 20}
    assert planned(SAMPLED, None, "vllm", user_body={"top_k": 1}).body["top_k"] == 1
    assert planned(SAMPLED, None, "dashscope").body == {}
    assert planned(SAMPLED, None, "openai").body == {}
    assert planned(ChatFacts(family="x", sampling_thinking=Sampling(temperature=1)), None, "vllm").body == {}


OPENS = ChatFacts(family="x", thinking="hybrid", thinks_by_default=True, opens_in_prompt=True)


@pytest.mark.parametrize(
    ("facts", "thinking", "dialect", "users", "start"),
    [
        (OPENS, None, "vllm", {}, "unknown"),
        (OPENS, True, "tgi", {}, "unknown"),
        (OPENS, False, "vllm", {}, "answer"),
        (OPENS, False, "lmstudio", {}, "unknown"),  # it can't be switched off there
        (OPENS, None, "openai", {"chat_template_kwargs": {"enable_thinking": False}}, "answer"),
        (OPENS, True, "dashscope", {}, "answer"),
        (HYBRID, True, "vllm", {}, "answer"),
    ],
)
def test_the_reader_is_told_what_may_come(facts, thinking, dialect, users, start):
    assert planned(facts, thinking, dialect, user_body=users).reader_start == start


def test_a_soft_switch_is_passed_on():
    soft = ChatFacts(family="x", thinking="hybrid", soft_switch=True)
    assert planned(soft, False, "tgi").soft_switch == "/no_think"


# ---- the session's budget


def test_the_session_grants_what_is_left():
    budget = ThinkingBudget(1000)
    first = planned(HYBRID, 600, budget=budget)
    assert (first.grant.tokens, first.decision.budget, first.decision.source) == (600, 600, "asked")
    second = planned(HYBRID, "high", budget=budget)
    assert (second.decision.effort, second.decision.budget, second.decision.source) == (None, 400, "session budget")
    assert second.body == {"enable_thinking": True, "thinking_budget": 400}
    third = planned(HYBRID, True, budget=budget)
    assert (third.decision.enabled, third.decision.source) == (False, "session budget")
    assert third.body == {"enable_thinking": False}
    assert budget.remaining == 0


def test_an_effort_within_the_grant_stays_an_effort():
    made = planned("qwen3.8-max", "low", budget=ThinkingBudget(10_000))
    assert (made.decision.effort, made.grant.tokens, made.body["reasoning_effort"]) == ("low", 4096, "low")


def test_no_more_is_reserved_than_the_model_can_use():
    facts = ChatFacts(family="x", thinking="hybrid", max_thinking_tokens=500)
    budget = ThinkingBudget(10_000)
    assert planned(facts, True, budget=budget).grant.tokens == 500
    high = planned(facts, "high", budget=budget)
    assert (high.grant.tokens, high.decision.effort) == (500, "high")
    assert planned(facts, 900, budget=budget).grant.tokens == 500


@pytest.mark.parametrize(("facts", "thinking"), [(HYBRID, False), (OFF, None), (NEVER, True)])
def test_a_call_that_does_not_think_is_in_the_ledger_only(facts, thinking):
    budget = ThinkingBudget(1000)
    made = planned(facts, thinking, budget=budget)
    assert made.decision.source != "session budget"
    made.grant.settle(None, "m")
    assert len(budget.ledger) == 1


def test_a_model_that_always_thinks_goes_over_a_spent_budget_by_a_token_and_says_so():
    budget = ThinkingBudget(300)
    budget.reserve(300)
    made = planned(ALWAYS, None, budget=budget)
    assert (made.decision.enabled, made.decision.budget, made.grant.tokens) == (True, 1, 0)
    assert made.body == {"thinking_budget": 1}
    assert "always thinks" in made.notes[0]


def test_the_users_body_wins_over_the_session_and_it_is_said():
    made = planned(HYBRID, True, budget=ThinkingBudget(300), user_body={"thinking_budget": 900})
    assert made.body == {"enable_thinking": True, "thinking_budget": 900}
    assert "extra_body says otherwise and wins" in made.notes[0]


# ---- lessons


def test_stream_only_is_remembered():
    made = taught(call(OFF, False), Fix("stream"))
    assert (made.stream, made.healed) == (True, ("stream",))
    assert taught(call(OFF, False, stream=True), Fix("stream")).healed == ()


def test_a_model_that_must_think_thinks():
    made = taught(call(HYBRID, False), Fix("thinking_on"))
    assert (made.decision.enabled, made.decision.source, made.body) == (True, "learned", {})
    assert (made.healed, len(made.notes), made.stream) == (("thinking_on",), 1, True)
    assert taught(call(HYBRID, True), Fix("thinking_on")).healed == ()


@pytest.mark.parametrize(("thinking", "notes"), [(True, 1), (False, 0), (500, 1)])
def test_a_model_without_a_switch_is_sent_none(thinking, notes):
    made = taught(call(UNKNOWN, thinking), Fix("no_thinking_switch"))
    assert (made.decision.enabled, made.decision.source, made.body) == (False, "learned", {})
    assert (made.healed, len(made.notes)) == (("no_thinking_switch",), notes)
    assert taught(call(UNKNOWN, None), Fix("no_thinking_switch")).healed == ()


@pytest.mark.parametrize(
    ("thinking", "sent", "healed"),
    [(900, 500, True), ("medium", 500, True), (400, 400, False), ("high", 500, True)],
)
def test_a_limit_is_kept_to(thinking, sent, healed):
    made = taught(call(UNKNOWN, thinking), Fix("smaller_budget", 500))
    assert made.body == {"enable_thinking": True, "thinking_budget": sent}
    assert (made.decision.budget, made.healed) == (sent, ("smaller_budget",) if healed else ())
    assert len(made.notes) == healed


def test_a_limit_is_kept_to_within_a_session():
    asked = call(UNKNOWN, True, budget=ThinkingBudget(9000))
    made = taught(asked, Fix("smaller_budget", 500))
    assert (made.grant.tokens, made.body["thinking_budget"]) == (500, 500)


@pytest.mark.parametrize(
    ("facts", "dialect", "thinking", "body"),
    [
        (UNKNOWN, "vllm", 900, {"chat_template_kwargs": {"enable_thinking": True}}),
        (UNKNOWN, "vllm", "low", {"chat_template_kwargs": {"enable_thinking": True}}),
        (UNKNOWN, "dashscope", 900, {"enable_thinking": True}),
        (
            ChatFacts(family="x", thinking="hybrid", efforts=("low", "medium", "xhigh")),
            "dashscope",
            4000,
            {"enable_thinking": True, "reasoning_effort": "low"},
        ),
    ],
)
def test_a_server_without_budgets_is_sent_none(facts, dialect, thinking, body):
    made = taught(call(facts, thinking, dialect), Fix("no_budget"))
    assert (made.body, made.healed, made.decision.budget) == (body, ("no_budget",), None)
    assert "takes no thinking budget" in made.notes[0]


def test_a_tool_can_be_forced_where_it_was_learnt_that_it_can_not():
    lesson = Fix("tool_choice_while_thinking")
    asked = taught(call(HYBRID, True, **TOOLS), lesson)
    assert (asked.tool_choice, asked.decision.enabled, asked.healed) == ("auto", True, (lesson.name,))
    free = taught(call(HYBRID, None, **TOOLS), lesson)
    assert (free.tool_choice, free.decision.enabled, free.decision.source) == ("required", False, "learned")
    assert (free.body, free.healed) == ({"enable_thinking": False}, (lesson.name,))
    assert taught(call(HYBRID, None), lesson).healed == ()
    never = taught(call(HYBRID, None, **TOOLS), Fix("tool_choice_auto"))
    assert (never.tool_choice, never.decision.enabled, never.healed) == ("auto", None, ("tool_choice_auto",))


def test_a_format_waits_where_it_was_learnt_that_it_must():
    made = taught(call(UNKNOWN, True, response_format=SCHEMA), Fix("no_json_while_thinking"))
    assert (made.think_first, made.response_format, made.healed) == (True, None, ("no_json_while_thinking",))
    answering = taught(call(UNKNOWN, False, response_format=SCHEMA), Fix("no_json_while_thinking"))
    assert (answering.think_first, answering.response_format, answering.healed) == (False, SCHEMA, ())


def test_deepseek_gets_all_reasoning_back_unasked():
    assert planned(HYBRID, None, "deepseek").history == "preserve"
    assert planned(HYBRID, ThinkingPolicy(history="tools"), "deepseek").history == "tools"


def test_reasoning_goes_back_where_the_server_wants_it():
    made = taught(call(HYBRID, None, "openai"), Fix("send_reasoning_back"))
    assert (made.history, made.healed, made.notes) == ("preserve", ("send_reasoning_back",), ())
    asked = taught(call(HYBRID, ThinkingPolicy(history="strip"), "deepseek"), Fix("send_reasoning_back"))
    assert (asked.history, len(asked.notes)) == ("preserve", 1)


STREAM = "parameter.enable_thinking must be set to false for non-streaming calls"
TRUE = "The value of the enable_thinking parameter is restricted to True."


def test_a_call_is_healed_once_per_lesson_and_then_gives_up():
    learned = Learned()
    asked = call(UNKNOWN, False)
    first = plan(asked, learned)
    assert heal(asked, refused(400, dashscope_body(TRUE)), learned, tried=first)
    second = plan(asked, learned)
    assert heal(asked, refused(400, dashscope_body(STREAM)), learned, tried=second)
    third = plan(asked, learned)
    assert (third.decision.enabled, third.stream, third.healed) == (True, True, ("thinking_on",))
    assert not heal(asked, refused(400, dashscope_body(STREAM)), learned, tried=third)
    assert not heal(asked, refused(400, dashscope_body(TRUE)), learned, tried=third)


def test_what_another_call_has_learnt_in_the_meantime_heals_too():
    learned = Learned()
    asked = call(UNKNOWN, False)
    mine, theirs = plan(asked, learned), plan(asked, learned)
    error = refused(400, dashscope_body(TRUE))
    assert heal(asked, error, learned, tried=mine)
    assert heal(asked, error, learned, tried=theirs)
    assert not heal(asked, error, learned)


def test_a_healed_call_gives_back_what_it_reserved(caplog):
    learned = Learned()
    budget = ThinkingBudget(1000)
    asked = call(UNKNOWN, 900, budget=budget)
    tried = plan(asked, learned)
    error = refused(
        400, dashscope_body("The thinking_budget parameter must be a positive integer and not greater than 500")
    )
    with caplog.at_level(logging.WARNING, logger="qwen3_rag.thinking"):
        assert heal(asked, error, learned, tried=tried)
    assert budget.remaining == 1000
    assert "learnt 'smaller_budget'" in caplog.text
    assert plan(asked, learned).grant.tokens == 500


@pytest.mark.parametrize("error", [refused(401, dashscope_body("no")), ValueError(STREAM), KeyboardInterrupt()])
def test_what_can_not_be_healed_teaches_nothing(error):
    learned = Learned()
    asked = call(UNKNOWN, False)
    assert not heal(asked, error, learned, tried=plan(asked, learned))
    assert learned.known(asked.endpoint.base_url, asked.model) == {}


def test_notes_are_logged_once_per_model_and_server(caplog):
    with caplog.at_level(logging.WARNING, logger="qwen3_rag.thinking"):
        for _ in range(3):
            planned("qwq-plus-2025-03-05", False)
        planned("qwq-plus-latest", False)
    assert [record.getMessage() for record in caplog.records] == [
        f"{model} on dashscope.aliyuncs.com: {model} always thinks, so thinking=False could not be had"
        for model in ("qwq-plus-2025-03-05", "qwq-plus-latest")
    ]


def test_a_call_is_not_changed_by_planning_it():
    users = {"chat_template_kwargs": {"x": [1]}}
    asked = call(SAMPLED, "low", "vllm", user_body=users, **TOOLS)
    made = plan(asked, Learned())
    made.body["chat_template_kwargs"]["x"].append(2)
    assert users == {"chat_template_kwargs": {"x": [1]}}
    assert plan(asked, Learned()).body["chat_template_kwargs"]["x"] == [1]
