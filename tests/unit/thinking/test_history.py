"""Which reasoning goes back to the server, and under which name."""

from __future__ import annotations

import copy

import pytest

from qwen3_rag.errors import InputError
from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking.dialects import DIALECTS
from qwen3_rag.thinking.history import outgoing, resolve_history
from qwen3_rag.thinking.reader import Pieces

CALL = [{"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Search"},
    {"role": "assistant", "content": "", "tool_calls": CALL},
    {"role": "tool", "tool_call_id": "call_1", "content": "found"},
    {"role": "assistant", "content": "Found it"},
]
REASONING = [None, "not mine", "old", None, "loop", None, "last"]
FIELDS = ("reasoning_content", "reasoning", "reasoning_details")


def sent(mode, dialect="dashscope", reasoning=REASONING, messages=MESSAGES):
    before = copy.deepcopy((messages, reasoning))
    result = outgoing(messages, reasoning, mode=mode, dialect=DIALECTS[dialect])
    assert (messages, reasoning) == before
    assert [{k: v for k, v in m.items() if k not in FIELDS} for m in result] == [
        {k: v for k, v in m.items() if k not in FIELDS} for m in messages
    ]
    return {place: {k: m[k] for k in FIELDS if k in m} for place, m in enumerate(result) if set(m) & set(FIELDS)}


def test_stripped_history_has_no_reasoning():
    assert sent("strip") == {}


def test_the_running_tool_loop_keeps_its_reasoning():
    assert sent("tools") == {4: {"reasoning_content": "loop"}, 6: {"reasoning_content": "last"}}


def test_preserved_history_has_all_of_it_but_on_answers_only():
    assert sent("preserve") == {
        2: {"reasoning_content": "old"},
        4: {"reasoning_content": "loop"},
        6: {"reasoning_content": "last"},
    }


def test_a_new_question_ends_the_loop():
    messages = [*MESSAGES, {"role": "user", "content": "Thanks"}]
    assert sent("tools", reasoning=[*REASONING, None], messages=messages) == {}


def test_without_a_user_message_all_is_one_loop():
    messages, reasoning = MESSAGES[4:6], REASONING[4:6]
    assert sent("tools", reasoning=reasoning, messages=messages) == {0: {"reasoning_content": "loop"}}


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_server_gets_it_under_the_name_it_knows(name):
    assert sent("tools", name)[4] == {DIALECTS[name].reasoning_field: "loop"}


def test_openrouter_gets_the_details_themselves():
    details = [
        {"type": "reasoning.text", "text": "lo", "index": 0},
        {"type": "reasoning.text", "text": "op", "index": 0},
        {"type": "reasoning.text", "signature": "s", "index": 0},
    ]
    whole = [{"type": "reasoning.text", "text": "loop", "signature": "s", "index": 0}]
    for own in (details, Pieces("loop", details=tuple(details))):
        reasoning = [*REASONING[:4], own, *REASONING[5:]]
        assert sent("tools", "openrouter", reasoning)[4] == {"reasoning_details": whole}
        assert sent("tools", "vllm", reasoning)[4] == {"reasoning": "loop"}
    assert sent("tools", "openrouter")[6] == {"reasoning": "last"}


def test_reasoning_that_the_messages_carry_counts():
    messages = copy.deepcopy(MESSAGES)
    messages[4] |= {"reasoning_content": "loop", "reasoning": "loop"}
    messages[6] |= {"reasoning": "", "reasoning_details": [{"type": "reasoning.summary", "summary": "last"}]}
    none = [None] * len(messages)
    assert sent("tools", "vllm", none, messages) == {4: {"reasoning": "loop"}, 6: {"reasoning": "last"}}
    assert sent("strip", "vllm", none, messages) == {}
    assert sent("tools", "vllm", REASONING, messages)[6] == {"reasoning": "last"}
    assert sent("tools", "openrouter", none, messages)[6] == {
        "reasoning_details": [{"type": "reasoning.summary", "summary": "last"}]
    }


@pytest.mark.parametrize("nothing", [None, "", [], Pieces(), Pieces(text="answer")])
def test_nothing_is_never_sent_as_an_empty_field(nothing):
    assert sent("preserve", reasoning=[nothing] * len(MESSAGES)) == {}


def test_encrypted_details_go_back_to_openrouter_only():
    own = [{"type": "reasoning.encrypted", "data": "gAAA"}]
    reasoning = [None] * 6 + [own]
    assert sent("tools", "openrouter", reasoning) == {6: {"reasoning_details": own}}
    assert sent("tools", "dashscope", reasoning) == {}


def test_one_entry_per_message():
    with pytest.raises(InputError, match="7 messages need as many entries of reasoning, got 1"):
        outgoing(MESSAGES, [None], mode="strip", dialect=DIALECTS["vllm"])


@pytest.mark.parametrize("mode", ["strip", "tools", "preserve"])
def test_the_user_overrides_the_models_contract(mode):
    assert resolve_history("auto", ChatFacts(family="x", history=mode)) == mode
    assert resolve_history(mode, ChatFacts(family="x", history="tools")) == mode
