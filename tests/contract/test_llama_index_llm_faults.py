"""Everything that can go wrong on the wire, in all ways to call `Qwen3LLM`: success, or one typed error that tells all."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from qwen3_rag import errors
from qwen3_rag.errors import ChatError, ResponseError
from qwen3_rag.thinking import LEARNED, ThinkingBudget
from tests.chat_server import FAULTS, KEY, MARK, ChatServer, fault_names
from tests.llama_index_llm import ADD, STREAMS, WAYS, WEATHER, ask, calls, connect, thoughts

CASES = [(name, way) for way in WAYS for name in fault_names(stream=way in STREAMS)]


@pytest.fixture
def server():
    LEARNED.clear()
    with ChatServer(delay=1.5) as running:
        yield running


@pytest.mark.parametrize(("name", "way"), CASES)
async def test_faults(server, name, way):
    fault = FAULTS[name]
    end = fault.ends(stream=way in STREAMS)
    server.fail(name)
    budget = ThinkingBudget(100_000)
    llm = connect(server, max_retries=1 if end == "success" else 0, timeout=0.5 if fault.slow else 20, budget=budget)
    began = time.monotonic()
    if end == "success":
        assert (await ask(llm, way)).message.content.startswith("Hello, this is")
        assert time.monotonic() - began >= fault.waits
        return
    with pytest.raises(ChatError) as caught:
        await ask(llm, way)
    error = caught.value
    assert type(error).__name__ == end, repr(error)
    assert KEY not in f"{error} {error!r} {error.__cause__!r} {error.args}"
    if way in STREAMS and (fault.heard.reasoning or fault.heard.text):
        assert error.partial.reasoning == fault.heard.reasoning
        assert error.partial.text == fault.heard.text
        assert [call["name"] for call in error.partial.tool_calls] == ([fault.heard.tool] if fault.heard.tool else [])
    if not isinstance(error, errors.ServerTimeoutError | errors.ServerConnectionError):  # there the SDK keeps it
        assert error.request_id == server.last.request_id
    assert budget.remaining >= 100_000 - len(fault.heard.reasoning)
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_retries_are_not_doubled(server, way):
    """LlamaIndex's own retry around the SDK's made 16 requests of `max_retries=3`."""
    server.fail("server_error")
    with pytest.raises(errors.ServerError):
        await ask(connect(server, max_retries=2), way)
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", ["chat", "achat"])
async def test_what_had_arrived_of_an_answer_that_is_streamed_inside(server, way):
    server.fail("cut_in_answer")
    with pytest.raises(errors.StreamError) as caught:
        await ask(connect(server), way, thinking=True)
    assert caught.value.partial.reasoning == FAULTS["cut_in_answer"].heard.reasoning
    assert caught.value.partial.text == FAULTS["cut_in_answer"].heard.text


# --- what heals


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("model", "thinking"),
    [("qwen3.7-max-2026-05-17", False), ("qwen3.8-2.4t-a95b", False), ("qwen-max", True)],
)
async def test_what_can_not_be_had_is_told(server, way, model, thinking):
    last = await ask(connect(server, model), way, thinking=thinking)
    assert server.last.thinks is not thinking
    assert bool(thoughts(last)) is not thinking
    assert last.additional_kwargs["notes"]


REFUSALS = {
    "thinking_on": ("The value of the enable_thinking parameter is restricted to True.", False),
    "no_thinking_switch": ("The model x does not support enable_thinking.", True),
    "smaller_budget": ("The thinking_budget parameter must be a positive integer and not greater than 500", 900),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lesson", REFUSALS)
async def test_a_refusal_heals_the_call_and_the_next_one(server, way, lesson, caplog):
    text, thinking = REFUSALS[lesson]
    refusal = {"error": {"code": "invalid_parameter_error", "message": text, "type": "invalid_request_error"}}
    server.reply(raw=json.dumps(refusal).encode(), status=400)
    llm = connect(server, thinking=thinking)
    with caplog.at_level(logging.WARNING):
        last = await ask(llm, way)
    assert last.message.content.startswith("Hello, this is")
    assert lesson in last.additional_kwargs["healed"]
    assert "learnt" in caplog.text
    assert len(server.requests) == 2
    again = await ask(llm, way)
    assert lesson in again.additional_kwargs["healed"]
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_tool_that_is_refused_while_thinking(server, way, caplog):
    """DeepSeek-V3#1376: a forced choice breaks every framework. Thinking was asked for, so the choice gives way."""
    llm = connect(server, "qwen3.8-flash")
    last = await ask(llm, way, "Give me the sum of two numbers", tools=[ADD], tool_choice="add", thinking=True)
    assert [call.tool_name for call in calls(last)] == ["add"]
    assert thoughts(last).startswith(MARK)
    assert [body["tool_choice"] for body in server.bodies] == [
        {"type": "function", "function": {"name": "add"}},
        "auto",
    ]
    assert any("tool_choice" in note for note in last.additional_kwargs["notes"])
    assert "tool_choice" in caplog.text


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_that_nobody_can_heal_is_raised_once(server, way):
    server.fail("invalid_request")
    with pytest.raises(errors.InvalidRequestError, match="top_p"):
        await ask(connect(server), way)
    assert len(server.requests) == 1


# --- answers that can't be used


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arguments", ['{"city": "Par', "Paris", "[1]"])
async def test_broken_arguments_never_run_a_tool(server, way, arguments):
    """LlamaIndex completes what was cut, and calls with nothing what it can't read."""
    server.reply(reasoning="Hm.", tool_calls=[("get_weather", arguments)])
    with pytest.raises(ResponseError, match="get_weather") as caught:
        await ask(connect(server), way, tools=[WEATHER], thinking=True)
    assert caught.value.partial.reasoning == "Hm."
    (call,) = caught.value.partial.tool_calls
    assert (call["name"], call["arguments"]) == ("get_weather", arguments)
    assert caught.value.request_id == server.last.request_id


class Person(BaseModel):
    name: str


@pytest.mark.parametrize("way", ["structured_predict", "astructured_predict"])
async def test_a_structured_answer_that_can_not_be_repaired(server, way):
    server.reply("Ann.", times=2)

    async def predict():
        made = getattr(connect(server), way)(Person, PromptTemplate("Who? Answer in json"))
        return await made if way.startswith("a") else made

    with pytest.raises(ResponseError, match="no Person") as caught:
        await predict()
    assert caught.value.partial.text == "Ann."


# --- cancellation


async def test_a_cancelled_stream_is_closed_and_pays_only_what_came(server):
    budget = ThinkingBudget(10_000, per_call=4_000)
    server.reply("The answer.", reasoning="Let me think about it for long. " * 20, pause=0.05)
    llm = connect(server, thinking=True, budget=budget)
    stream = await llm.astream_chat([ChatMessage("Hello")])
    async for response in stream:
        assert response.additional_kwargs["thinking_delta"]
        break
    assert budget.remaining == 6_000
    await stream.aclose()
    await asyncio.sleep(0.05)  # the event loop closes what the stream was made of
    assert server.settled()
    assert server.last.aborted
    assert 9_000 < budget.remaining < 10_000


def test_a_closed_stream_is_closed_on_the_wire(server):
    budget = ThinkingBudget(10_000)
    server.reply("The answer.", reasoning="Let me think about it for long. " * 20, pause=0.05)
    stream = connect(server, thinking=True, budget=budget).stream_chat([ChatMessage("Hello")])
    next(stream)
    stream.close()
    assert server.settled()
    assert server.last.aborted
    assert budget.remaining > 9_000


@pytest.mark.parametrize("way", ["achat", "astream_chat"])
async def test_a_cancelled_task(server, way):
    budget = ThinkingBudget(10_000)
    server.reply("The answer.", reasoning="Let me think about it for long. " * 20, pause=0.1)
    task = asyncio.create_task(ask(connect(server, thinking=True, budget=budget), way))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.settled)
    assert server.last.aborted
    assert 9_000 < budget.remaining <= 10_000


async def test_a_call_that_waits_for_its_headers_can_be_cancelled(server):
    server.fail("slow_headers")
    budget = ThinkingBudget(10_000)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(connect(server, thinking=True, budget=budget), "achat"), 0.2)
    assert time.monotonic() - began < 1
    assert budget.remaining == 10_000
