"""Every fault on the wire, in every way to call: success, or one typed error with what had arrived."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext

import pytest
from langchain_core.exceptions import ModelError

from qwen3_rag import errors
from qwen3_rag.thinking import ThinkingBudget
from tests.chat_server import FAULTS, KEY, fault_names
from tests.integration.langchain.chat.ways import STREAMED, WAYS, WHOLE

TIMEOUT = 0.4  # seconds; the slow faults take 1


CASES = [
    *((name, way, False) for name in fault_names(stream=False) for way in WHOLE),
    *((name, way, False) for name in fault_names(stream=True) for way in STREAMED),
    *((name, way, True) for name in fault_names(stream=True) for way in WHOLE),  # thinks: streamed and gathered
]


@pytest.mark.parametrize(("name", "way", "thinks"), CASES)
def test_each_fault_ends_in_success_or_in_one_typed_error(server, chat, name, way, thinks):
    fault = server.fail(name)
    streams = thinks or way in STREAMED
    model = chat(
        max_retries=1 if fault.times else 0, timeout=TIMEOUT if fault.slow else 10, stream_chunk_timeout=2 * TIMEOUT
    )
    budget = ThinkingBudget(1000)
    begin = time.monotonic()
    with nullcontext() if fault.ends(stream=streams) == "success" else pytest.raises(errors.ChatError) as caught:
        message = WAYS[way](model, "Say hello", thinking=thinks, budget=budget)
    if caught is None:
        assert "three sentences" in message.text
        assert bool(message.additional_kwargs.get("reasoning_content")) == thinks
    else:
        error = caught.value
        assert type(error).__bases__[0] is getattr(errors, fault.ends(stream=streams))
        assert isinstance(error, ModelError)
        assert error.is_retryable == error.retryable
        check_what_is_told(error, name, streams)
    assert time.monotonic() - begin >= fault.waits
    # What was reserved is nobody's any more: spent at most by what arrived of the reasoning.
    assert budget.remaining == 1000 - budget.spent
    assert server.settled()


def check_what_is_told(error, name, streams):
    heard = FAULTS[name].heard
    told = str(error)
    assert KEY not in told
    assert "qwen-plus on 127.0.0.1" in told
    assert "Way out: " in told
    if streams and heard.reasoning:
        assert error.partial is not None
        assert (error.partial.reasoning, error.partial.text) == (heard.reasoning, heard.text)
        assert [call["name"] for call in error.partial.tool_calls] == ([heard.tool] if heard.tool else [])
    else:
        assert error.partial is None
    if (
        error.status
        and error.status >= 400
        and "html" not in name
        and "error_in" not in name
        and "overflow" not in name
    ):
        assert error.request_id
        assert error.request_id in told


@pytest.mark.parametrize("way", STREAMED)
def test_what_was_streamed_before_a_cut_has_been_passed_on(server, chat, way):
    server.fail("cut_in_answer")
    heard = []

    model = chat(max_retries=3)

    async def collect():
        async for chunk in model.astream("Hi"):
            heard.append(chunk)

    with pytest.raises(errors.StreamError) as caught:
        asyncio.run(collect()) if way == "astream" else heard.extend(chunk for chunk in model.stream("Hi"))
    whole = sum(heard[1:], heard[0])
    assert whole.text == caught.value.partial.text
    assert whole.additional_kwargs["reasoning_content"] == caught.value.partial.reasoning
    assert len(server.requests) == 1  # what was passed on can't be asked for again
