"""Chat and stream in both frameworks, through a real server, with every character known."""

from __future__ import annotations

import pytest

from qwen3_rag.errors import InvalidRequestError
from tests.integration.serving.conftest import HYBRID, INLINE, OPENED, OPENED_INLINE
from tests.integration.serving.tiny_chat import AFTER_THINKING, AT_ONCE, THOUGHT
from tests.integration.serving.ways import WAYS, Blocks, Heard, Way, langchain, llama_index

pytestmark = pytest.mark.slow

THOUGHTFUL: Blocks = [("reasoning", THOUGHT), ("text", AFTER_THINKING)]
# Reasoning in a field is passed on unmodified, and this server streams it with the newlines around it.
FRAMED: Blocks = [("reasoning", f"\n{THOUGHT}\n"), ("text", AFTER_THINKING)]
PLAIN: Blocks = [("text", AT_ONCE)]
QUESTION = "What is a vector database?"


@pytest.fixture(params=WAYS, ids=str)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


def check(heard: Heard, expected: Blocks, *, parsed: bool = True) -> None:
    if expected is THOUGHTFUL and parsed and heard.pieces is not None:
        expected = FRAMED
    assert heard.blocks == expected
    assert all(count > 0 for count in heard.tokens)
    assert heard.told["finish_reason"] == "stop"
    assert heard.told["healed"] == []
    if heard.pieces is not None:
        kinds = [kind for kind, _ in heard.pieces]
        assert kinds == sorted(kinds), "reasoning comes first, and never again"
        assert len(kinds) > 3 * len(expected), "token by token"
        assert [(kind, joined_pieces(heard.pieces, kind)) for kind in dict.fromkeys(kinds)] == expected


def joined_pieces(pieces: Blocks, kind: str) -> str:
    return "".join(text for found, text in pieces if found == kind)


@pytest.mark.parametrize(
    ("thinking", "expected"), [(None, THOUGHTFUL), (True, THOUGHTFUL), (False, PLAIN)], ids=["unsaid", "on", "off"]
)
@pytest.mark.parametrize("model", [HYBRID, INLINE], ids=["parsed", "inline"])
async def test_reasoning_and_answer_arrive_apart(way, server, model, thinking, expected):
    heard = await way.ask(server, model, QUESTION, thinking=thinking)
    check(heard, expected, parsed=model == HYBRID)
    assert heard.told["thinking"]["enabled"] is thinking
    assert heard.told["notes"] == []
    assert heard.told["reasoning_tokens"] == (0 if expected is PLAIN else None), "the server counts none"


@pytest.mark.parametrize("model", [OPENED, OPENED_INLINE], ids=["parsed", "inline"])
async def test_a_block_that_the_prompt_opens(way, server, model):
    heard = await way.ask(server, model, QUESTION)
    check(heard, THOUGHTFUL, parsed=model == OPENED)


@pytest.mark.parametrize(("thinking", "expected"), [(None, PLAIN), (True, THOUGHTFUL)], ids=["unsaid", "on"])
async def test_the_user_wins_over_a_server_that_was_started_without_reasoning(way, server_with, thinking, expected):
    heard = await way.ask(server_with("off"), HYBRID, QUESTION, thinking=thinking)
    check(heard, expected)


async def test_a_limit_that_the_server_can_not_keep_is_reported(way, server):
    heard = await way.ask(server, HYBRID, QUESTION, thinking=512)
    check(heard, THOUGHTFUL)
    (note,) = heard.told["notes"]
    assert "512" in note


async def test_a_conversation_goes_on_with_the_thoughtful_answer(way, server):
    first = await way.ask(server, HYBRID, QUESTION, thinking=True)
    second = await way.ask(server, HYBRID, QUESTION, first.message, "And “答案”?", thinking=False)
    check(second, PLAIN)
    assert second.tokens[0] > first.tokens[0] + 10, "the first answer is in the prompt"


@pytest.mark.parametrize("model", [HYBRID, INLINE], ids=["parsed", "inline"])
async def test_an_answer_cut_while_thinking_is_reasoning_only(way, server, model):
    heard = await way.ask(server, model, QUESTION, thinking=True, max_tokens=6)
    ((kind, text),) = [block for block in heard.blocks if block[1]]
    assert kind == "reasoning"
    assert THOUGHT.startswith(text.removeprefix("\n"))
    assert heard.told["finish_reason"] == "length"
    assert heard.tokens[1] == 6


async def test_a_field_that_the_server_refuses_is_an_error_that_names_it(way, server):
    with pytest.raises(InvalidRequestError, match="top_k") as caught:
        await way.ask(server, HYBRID, QUESTION, extra_body={"top_k": 20})
    assert caught.value.status == 422
    assert caught.value.request_id


async def test_a_stream_that_is_left_early_does_not_hold_the_server_up(server):
    for _ in range(3):
        assert next(iter(langchain(server, HYBRID).stream(QUESTION)))
        assert next(iter(llama_index(server, HYBRID).stream_chat([WAYS[-1].question(QUESTION)])))
    check(await WAYS[0].ask(server, HYBRID, QUESTION), THOUGHTFUL)
