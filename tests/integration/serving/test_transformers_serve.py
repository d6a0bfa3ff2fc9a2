"""A server that nobody here wrote, seen with OpenAI's own client: what the adapters have to cope with.

`transformers serve` puts reasoning into `reasoning_content`, takes `chat_template_kwargs` like vLLM, ends streams without
`[DONE]`, and refuses every field of the request that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from tests.integration.serving.conftest import HYBRID, INLINE, OPENED_INLINE
from tests.integration.serving.tiny_chat import AFTER_THINKING, AT_ONCE, THOUGHT

pytestmark = pytest.mark.slow

QUESTION: Final[Any] = [{"role": "user", "content": "What is a vector database?"}]
THOUGHTFUL: Final = (THOUGHT, AFTER_THINKING)
PLAIN: Final = (None, AT_ONCE)


@pytest.fixture
def sdk(server: str) -> Iterator[openai.OpenAI]:
    with client(server) as opened:
        yield opened


def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="EMPTY", timeout=60, max_retries=0)


def switched(thinking: bool) -> dict[str, Any]:
    return {"chat_template_kwargs": {"enable_thinking": thinking}}


@pytest.mark.parametrize(
    ("reasoning", "thinking", "expected"),
    [
        ("auto", None, THOUGHTFUL),
        ("on", None, THOUGHTFUL),
        ("off", None, PLAIN),
        ("auto", False, PLAIN),
        ("on", False, PLAIN),
        ("off", True, THOUGHTFUL),
    ],
)
def test_a_request_overrides_how_the_server_was_started(server_with, reasoning, thinking, expected):
    extra = None if thinking is None else switched(thinking)
    with client(server_with(reasoning)) as sdk:
        completion = sdk.chat.completions.create(model=HYBRID, messages=QUESTION, extra_body=extra)
    message = completion.choices[0].message.to_dict()
    assert (message.get("reasoning_content"), message["content"]) == expected
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert completion.usage.completion_tokens_details is None, "the server does not count reasoning"


@pytest.mark.parametrize(
    ("thinking", "reasoning", "content"),
    [(True, f"\n{THOUGHT}\n", f"\n\n{AFTER_THINKING}"), (False, "\n\n", f"\n\n{AT_ONCE}")],
)
def test_the_server_streams_the_frame_of_the_block_with_the_reasoning(sdk, thinking, reasoning, content):
    """Whole messages come without these newlines; those of an empty block must not look like a thought."""
    chunks = sdk.chat.completions.create(model=HYBRID, messages=QUESTION, stream=True, extra_body=switched(thinking))
    deltas = [chunk.choices[0].delta.to_dict() for chunk in chunks]
    for field, expected in (("reasoning_content", reasoning), ("content", content)):
        assert "".join(delta.get(field, "") for delta in deltas) == expected
    letters = {delta.get("reasoning_content", delta.get("content", "")).strip() for delta in deltas}
    assert letters & {"答", "ç"}, "a character that is several tokens arrives whole"


@pytest.mark.parametrize("field", ["enable_thinking", "thinking_token_budget", "top_k"])
def test_the_server_refuses_fields_that_it_does_not_know(sdk, field):
    with pytest.raises(openai.UnprocessableEntityError, match=field):
        sdk.chat.completions.create(model=HYBRID, messages=QUESTION, extra_body={field: 1})


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (INLINE, f"<think>\n{THOUGHT}\n</think>\n\n{AFTER_THINKING}"),
        (OPENED_INLINE, f"{THOUGHT}\n</think>\n\n{AFTER_THINKING}"),
    ],
)
def test_a_server_that_does_not_parse_leaves_the_tags_in_the_content(sdk, model, content):
    message = sdk.chat.completions.create(model=model, messages=QUESTION).choices[0].message.to_dict()
    assert message == {"role": "assistant", "content": content}
