"""One answer being read: pieces, metadata, the session's share, and what had arrived when it broke off."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen3_rag.errors import Partial
from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking import (
    DIALECTS,
    Call,
    Endpoint,
    Learned,
    Pieces,
    Plan,
    ThinkingBudget,
    ThinkingPolicy,
    Turn,
    plan,
)

HYBRID = ChatFacts(family="hybrid", thinking="hybrid", thinks_by_default=True)
USAGE = {"prompt_tokens": 10, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}


def turn(thinking=True, budget=None, facts=HYBRID, dialect="dashscope") -> tuple[Turn, Plan]:
    endpoint = Endpoint("http://localhost:8000/v1", DIALECTS[dialect], SecretStr("EMPTY"))
    call = Call(model="m", endpoint=endpoint, facts=facts, policy=ThinkingPolicy.of(thinking), budget=budget)
    made = plan(call, Learned())
    return Turn(call, made), made


def test_a_stream_is_read_and_settled():
    budget = ThinkingBudget(1000)
    reading, made = turn(budget=budget)
    assert (made.grant.tokens, budget.remaining) == (1000, 0)
    assert reading.feed({"role": "assistant", "content": "", "reasoning_content": None}) == Pieces()
    assert reading.feed({"content": None, "reasoning_content": "so"}) == Pieces(reasoning="so")
    assert reading.feed({"content": "Yes"}) == Pieces(text="Yes")
    assert reading.close("stop") == Pieces()
    metadata = reading.finish(USAGE)
    assert metadata == {
        "thinking": {
            "enabled": True,
            "effort": None,
            "budget": 1000,
            "reason": "asked to think; the session's budget grants 1000 tokens",
            "source": "session budget",
        },
        "notes": [],
        "healed": [],
        "reasoning_tokens": 40,
    }
    assert json.loads(json.dumps(metadata)) == metadata
    assert (reading.reasoning, reading.text, reading.details) == ("so", "Yes", ())
    assert (budget.remaining, budget.spent, budget.ledger[0].model) == (960, 40, "m")


def test_settling_twice_or_abandoning_afterwards_changes_nothing():
    budget = ThinkingBudget(1000)
    reading, _ = turn(budget=budget)
    reading.feed({"reasoning_content": "so"})
    reading.finish(USAGE)
    reading.finish(USAGE)
    reading.abandon()
    assert (budget.remaining, len(budget.ledger)) == (960, 1)


@pytest.mark.parametrize(
    ("usage", "delta", "tokens", "left"),
    [
        (None, {"content": "Yes"}, None, 0),
        ({"prompt_tokens": 1, "completion_tokens": 50}, {"content": "Yes"}, 0, 1000),
        ({"prompt_tokens": 1, "completion_tokens": 50}, {"reasoning": "so", "content": "Yes"}, None, 950),
        ({"prompt_tokens": 1, "completion_tokens": 50, "completion_tokens_details": None}, {"content": "Y"}, 0, 1000),
    ],
)
def test_a_server_that_does_not_count_reasoning(usage, delta, tokens, left):
    budget = ThinkingBudget(1000)
    reading, _ = turn(budget=budget)
    reading.feed(delta)
    reading.close("stop")
    assert reading.finish(usage)["reasoning_tokens"] == tokens
    assert budget.remaining == left


def test_without_a_session_there_is_nothing_to_settle():
    reading, made = turn()
    assert made.grant is None
    reading.abandon()
    assert reading.finish(USAGE)["reasoning_tokens"] == 40


def test_a_cut_answer_that_may_be_reasoning_is_reasoning():
    facts = ChatFacts(family="x", thinking="always", opens_in_prompt=True)
    for reason, pieces in (("length", Pieces(reasoning="so")), ("stop", Pieces(text="so")), (None, Pieces(text="so"))):
        reading, made = turn(facts=facts, dialect="tgi")
        assert made.reader_start == "unknown"
        assert reading.feed({"content": "so"}) == Pieces()
        assert reading.close(reason) == pieces


def test_an_abandoned_call_gives_its_share_back():
    budget = ThinkingBudget(1000)
    reading, _ = turn(budget=budget)
    reading.feed({"content": "Yes"})
    reading.abandon()
    assert (budget.remaining, budget.ledger) == (1000, ())


def test_an_abandoned_call_pays_for_what_it_thought():
    budget = ThinkingBudget(1000)
    reading, _ = turn(budget=budget)
    reading.feed({"reasoning_content": "思考" * 50})  # 300 bytes
    reading.abandon()
    assert (budget.remaining, budget.spent) == (900, 100)
    small = ThinkingBudget(300)
    reading, _ = turn(budget=small)
    reading.feed({"reasoning_content": "x" * 9000})
    reading.abandon()
    assert (small.remaining, small.spent) == (0, 300)


def test_what_had_arrived_includes_what_is_held_back():
    reading, _ = turn(facts=ChatFacts(family="x", thinking="always", opens_in_prompt=True), dialect="tgi")
    reading.feed({"content": "so far</thi"})
    assert reading.partial() == Partial(reasoning="so far</thi")
    assert reading.feed({"content": "nk>\n\nYes"}) == Pieces("so far", "Yes")
    assert reading.partial() == Partial("so far", "Yes")


def test_streamed_tool_calls_are_joined_as_dashscope_sends_them():
    reading, _ = turn()
    deltas = [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "search", "arguments": ""}},
        {"index": 0, "id": "", "type": "function", "function": {"name": None, "arguments": '{"q"'}},
        {"index": 1, "id": "call_b", "function": {"name": "fetch", "arguments": "{}"}},
        {"index": 0, "id": "", "function": {"arguments": ": 1"}},
        {"index": 1, "id": "", "function": None},
    ]
    for delta in deltas:
        reading.feed({"content": None, "tool_calls": [delta]})
    reading.feed({"tool_calls": None})
    assert reading.partial().tool_calls == (
        {"id": "call_a", "name": "search", "arguments": '{"q": 1'},
        {"id": "call_b", "name": "fetch", "arguments": "{}"},
    )


def test_whole_tool_calls_and_wrong_indices_are_kept_apart():
    whole = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    for calls in (whole, [{**call, "index": 0} for call in whole], [{**call, "index": None} for call in whole]):
        reading, _ = turn()
        for call in calls:
            reading.feed({"tool_calls": [call]})
        assert [call["name"] for call in reading.partial().tool_calls] == ["a", "b"]
    reading, _ = turn()
    reading.feed({"tool_calls": [{"function": {"name": "a"}}]})
    reading.feed({"tool_calls": [{"function": {"arguments": "{}"}}]})
    (only,) = reading.partial().tool_calls
    assert (only["name"], only["arguments"]) == ("a", "{}")


def test_details_are_whole_at_the_end():
    reading, _ = turn(dialect="openrouter")
    for text in ("so", " it"):
        item = {"type": "reasoning.text", "text": text, "index": 0}
        reading.feed({"reasoning": text, "reasoning_details": [item]})
    assert reading.details == ({"type": "reasoning.text", "text": "so it", "index": 0},)
    assert reading.reasoning == "so it"


@given(st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_streamed_and_whole_answers_are_the_same(reasoning, text):
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    message["tool_calls"] = [{"id": "a", "index": 0, "function": {"name": "f", "arguments": text}}]
    whole, _ = turn()
    whole.feed(message)
    streamed, _ = turn()
    streamed.feed({"role": "assistant", "content": ""})
    for letter in reasoning:
        streamed.feed({"reasoning_content": letter})
    for letter in text:
        streamed.feed({"content": letter})
    streamed.feed({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]})
    for letter in text:
        streamed.feed({"tool_calls": [{"index": 0, "id": "", "function": {"name": None, "arguments": letter}}]})
    assert whole.partial() == streamed.partial()
    assert whole.close("stop") == streamed.close("stop")
    # Newlines that could only be the frame of a block are no text: alone in the reasoning, or right after it.
    reasoning, text = reasoning if reasoning.strip("\n") else "", text.lstrip("\n") if reasoning else text
    assert whole.partial() == streamed.partial() == Partial(reasoning, text, whole.partial().tool_calls)
