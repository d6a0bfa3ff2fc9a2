"""Tools while thinking: in agents, in graphs, with answers that have a shape, and with tools from an MCP server."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from mcp import ClientSession, StdioServerParameters, stdio_client
from pydantic import BaseModel

from qwen3_rag.langchain import ChatQwen3
from tests.chat_server import MARK

QUESTION = "What is the weather in Paris?"


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


class Report(BaseModel):
    """What the weather is like."""

    city: str
    weather: str


def reasoning(message: AIMessage) -> str | None:
    return message.additional_kwargs.get("reasoning_content")


@pytest.mark.parametrize("name", ["qwen-plus", "qwen3.8-flash", "qwen3-8b", "qwq-plus"])
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_agent_thinks_before_and_after_its_tool(server, chat, name, version, is_async):
    agent = create_agent(chat(name, thinking=True, output_version=version), [get_weather])
    ask = {"messages": [HumanMessage(QUESTION)]}
    messages = (asyncio.run(agent.ainvoke(ask)) if is_async else agent.invoke(ask))["messages"]
    _, call, result, answer = messages
    assert call.tool_calls[0]["args"] == {"city": "Paris"}
    assert result.content == "It is sunny in Paris."
    assert "It is sunny in Paris." in answer.text
    for message in (call, answer):
        assert reasoning(message).startswith(MARK)
        assert message.content_blocks[0]["type"] == "reasoning"
    # The running tool loop goes back with its reasoning, as the vendor asks for.
    sent = server.last.body["messages"][1]
    assert sent["reasoning_content"] == reasoning(call)
    assert sent["content"] == ""


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("qwen3.7-max", None), ("qwen3.7-plus", ProviderStrategy), ("qwen-plus", None), ("qwen-plus", ToolStrategy)],
)
@pytest.mark.parametrize("thinking", [True, False, None])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_agent_with_a_response_format(server, chat, *, name, strategy, thinking, is_async):
    form = Report if strategy is None else strategy(Report)
    agent = create_agent(chat(name, thinking=thinking), [get_weather], response_format=form)
    ask = {"messages": [HumanMessage(QUESTION)]}
    state = asyncio.run(agent.ainvoke(ask)) if is_async else agent.invoke(ask)
    assert isinstance(state["structured_response"], Report)
    assert any(isinstance(m, ToolMessage) and "sunny" in m.text for m in state["messages"])
    thought = [m for m in state["messages"] if isinstance(m, AIMessage) and reasoning(m)]
    assert bool(thought) == (thinking is True or (thinking is None and name.startswith("qwen3.7")))


@pytest.mark.parametrize("name", ["qwen3.8-flash", "qwen3-8b"])
def test_a_forced_tool_that_cant_be_had_while_thinking_is_offered_with_a_warning(server, chat, name, caplog):
    model = chat(name, thinking=True).bind_tools([get_weather], tool_choice="any")
    with caplog.at_level(logging.WARNING, "qwen3_rag.thinking"):
        message = model.invoke(QUESTION)
    assert message.tool_calls
    assert reasoning(message)
    assert server.last.body["tool_choice"] == "auto"
    assert any("'auto'" in note for note in message.response_metadata["notes"])
    assert message.response_metadata["healed"]
    assert "'auto'" in caplog.text
    # Known from now on: no second refusal.
    server.clear()
    model.invoke(QUESTION)
    assert [request.status for request in server.requests] == [200]


def test_a_forced_tool_is_forced_where_the_server_takes_it(server, chat):
    chat("qwen3.7-max", thinking=True).bind_tools([get_weather], tool_choice="any").invoke("Hello")
    assert (server.last.body["tool_choice"], server.last.thinks) == ("required", True)
    chat("qwen3.8-flash", thinking=False).bind_tools([get_weather], tool_choice="get_weather").invoke("Hello")
    assert server.last.body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}


def test_strict_and_parallel_tool_calls_are_respected(server, chat):
    model = chat(thinking=True)
    model.bind_tools([get_weather], strict=True, parallel_tool_calls=False).invoke(QUESTION)
    assert server.last.body["tools"][0]["function"]["strict"] is True
    assert server.last.body["parallel_tool_calls"] is False
    model.bind_tools([get_weather]).invoke(QUESTION)
    assert "parallel_tool_calls" not in server.last.body
    assert "strict" not in server.last.body["tools"][0]["function"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_graph_streams_reasoning_and_answer_as_messages(server, chat, is_async):
    agent = create_agent(chat(thinking=True), [get_weather])
    ask = {"messages": [HumanMessage(QUESTION)]}

    async def arun():
        return [chunk async for chunk in agent.astream(ask, stream_mode="messages")]

    pairs = asyncio.run(arun()) if is_async else list(agent.stream(ask, stream_mode="messages"))
    chunks = [message for message, _ in pairs if isinstance(message, AIMessage)]
    by_id: dict[str, list] = {}
    for chunk in chunks:
        by_id.setdefault(chunk.id, []).append(chunk)
    call, answer = (sum(own[1:], own[0]) for own in by_id.values())
    assert (len(by_id), len(chunks) > 20) == (2, True)
    assert call.tool_calls[0]["args"] == {"city": "Paris"}
    assert reasoning(call).startswith(MARK)
    assert reasoning(answer).startswith(MARK)
    assert "It is sunny in Paris." in answer.text


@pytest.mark.parametrize("deltas", ["sglang", "ollama", "no index", "no id", "repeated"])
def test_calls_that_are_streamed_in_other_ways(server, chat, deltas):
    def piece(index, call_id, name, arguments):
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        return {"tool_calls": [{key: value for key, value in call.items() if value is not None}]}

    a, b = '{"city": "Paris"}', '{"city": "Rome"}'
    first, rest = b[:8], b[8:]
    pieces = {
        "sglang": [piece(0, "a", "get_weather", a), piece(1, "b", "get_weather", ""), piece(0, "", None, b)],
        "ollama": [piece(0, "a", "get_weather", a), piece(0, "b", "get_weather", b)],
        "no index": [
            piece(None, "a", "get_weather", a),
            piece(None, "b", "get_weather", first),
            piece(None, "", "", rest),
        ],
        "no id": [piece(0, None, "get_weather", a), piece(1, None, "get_weather", first), piece(1, None, None, rest)],
        "repeated": [
            piece(0, "a", "get_weather", a),
            piece(1, "b", "get_weather", first),
            piece(1, "b", "get_weather", rest),
        ],
    }[deltas]
    server.reply(
        deltas=[{"role": "assistant"}, {"reasoning_content": "Both."}, *pieces], finish_reason="tool_calls", times=2
    )
    model = chat(output_version="v1").bind_tools([get_weather])
    chunks = list(model.stream("Hi"))
    events = model.stream_events("Hi", version="v3")
    for message in (sum(chunks[1:], chunks[0]), events.output):
        assert [(c["name"], c["args"]) for c in message.tool_calls] == [
            ("get_weather", {"city": "Paris"}),
            ("get_weather", {"city": "Rome"}),
        ]
        assert len({c["id"] for c in message.tool_calls}) == 2
        assert all(c["id"] for c in message.tool_calls)
        assert [block["type"] for block in message.content] == ["reasoning", "tool_call", "tool_call"]


def test_arguments_that_were_cut_are_not_completed_but_invalid(server, chat):
    for options in ({"thinking": True}, {"thinking": False}):
        server.reply(tool_calls=[("get_weather", '{"city": "Par')], finish_reason="length")
        message = chat().bind_tools([get_weather]).invoke("Hi", **options)
        assert message.tool_calls == []
        [broken] = message.invalid_tool_calls
        assert (broken["name"], broken["args"]) == ("get_weather", '{"city": "Par')


# --- tools of an MCP server


@asynccontextmanager
async def mcp_tools():
    """Tools of a real MCP server in a process of its own, as LangChain takes them."""
    parameters = StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("mcp_server.py"))])
    async with stdio_client(parameters) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()

        def as_langchain(description):
            async def call(**arguments):
                result = await session.call_tool(description.name, arguments)
                return [{"type": "text", "text": part.text} for part in result.content]

            return StructuredTool.from_function(
                coroutine=call,
                name=description.name,
                description=description.description,
                args_schema=description.input_schema,
            )

        yield [as_langchain(description) for description in (await session.list_tools()).tools]


@pytest.mark.parametrize("name", ["qwen-plus", "qwen3-8b"])
def test_an_agent_thinks_with_the_tools_of_an_mcp_server(server, chat, name):
    async def run():
        async with mcp_tools() as tools:
            agent = create_agent(chat(name, thinking=True), tools)
            question = "Use price('Lamp') and order('Lamp', 3) please."
            return (await agent.ainvoke({"messages": [HumanMessage(question)]}))["messages"]

    messages = asyncio.run(run())
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert [message.name for message in results] == ["price", "order"]
    assert results[0].text == "Lamp costs 12.50"
    assert "A-17" in results[1].text
    assert "costs 12.50" in messages[-1].text
    assert all(reasoning(message) for message in messages if isinstance(message, AIMessage))
    # A tool's content goes out as the plain string that DashScope wants.
    sent = [message for message in server.last.body["messages"] if message["role"] == "tool"]
    assert [type(message["content"]) for message in sent] == [str, str]


def test_the_profile_tells_agents_what_the_model_can():
    known = ChatQwen3("qwen3.7-max", base_url="http://localhost:8000/v1").profile
    assert known["structured_output"] is True
    assert known["reasoning_output"] is True
    assert known["max_input_tokens"] > 100_000
    unknown = ChatQwen3("my-own", base_url="http://localhost:8000/v1").profile
    assert unknown["structured_output"] is False
    assert "max_input_tokens" not in unknown
    assert "reasoning_output" not in unknown
