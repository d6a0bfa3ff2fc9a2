"""Agents of LlamaIndex with `Qwen3LLM`: they think, stream it, call tools, from an MCP server too, and give it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.workflow import Context
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from pydantic import BaseModel

from qwen3_rag.thinking import LEARNED, ThinkingBudget
from tests.chat_server import MARK, ChatServer
from tests.llama_index_llm import ADD, WEATHER, connect

MCP_SERVER = Path(__file__).parents[1] / "mcp_server.py"


@pytest.fixture
def server():
    LEARNED.clear()
    with ChatServer() as running:
        yield running


async def run(agent: Any, question: str, **options: Any):
    """Runs an agent; returns its output and its events."""
    handler = agent.run(question, **options)
    events = [event async for event in handler.stream_events()]
    return await handler, events


def of(events: list[Any], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]


@pytest.mark.parametrize("face", ["dashscope", "deepseek", "vllm", "ollama", "openrouter"])
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_function_agent_thinks_and_calls_tools(server, face, streaming):
    model = {"dashscope": "qwen3.8-max", "deepseek": "deepseek-v4-pro"}.get(face, "qwen/qwen3.5-plus")
    llm = connect(server, model, face, thinking=True)
    agent = FunctionAgent(llm=llm, tools=[WEATHER, ADD], streaming=streaming)
    context = Context(agent)
    output, events = await run(agent, "Use get_weather for Paris and then add", ctx=context)
    results = of(events, ToolCallResult)
    assert {result.tool_name for result in results} == {"get_weather", "add"}
    assert "sunny in" in str(output)
    assert output.response.blocks[0].content.startswith(MARK)
    streamed = "".join(event.thinking_delta or "" for event in of(events, AgentStream))
    assert (MARK in streamed) is streaming
    assert MARK not in "".join(event.delta for event in of(events, AgentStream))
    # Each request of the loop has the reasoning of those before it.
    asked = [one for one in server.bodies[-1]["messages"] if one["role"] == "assistant"]
    assert asked
    assert all(any(one.get(f) for f in ("reasoning_content", "reasoning", "reasoning_details")) for one in asked)
    # A second question in the same conversation, where DeepSeek wants the reasoning of the first back.
    again, _ = await run(agent, "Thank you", ctx=context)
    assert str(again)
    assert server.last.status == 200


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_workflow_hands_over(server, streaming):
    """The planner has no tool for it and hands over; then the clerk answers by its own tool."""
    llm = connect(server, "qwen3.7-max", thinking=True)
    planner = FunctionAgent(
        name="planner", description="Plans.", llm=llm, tools=[ADD], can_handoff_to=["clerk"], streaming=streaming
    )
    clerk = FunctionAgent(name="clerk", description="Knows the weather.", llm=llm, tools=[WEATHER], streaming=streaming)
    server.reply(reasoning="Not mine.", tool_calls=[("handoff", {"to_agent": "clerk", "reason": "weather"})])
    server.reply(reasoning="Mine.", tool_calls=[("get_weather", {"city": "Paris"})])
    workflow = AgentWorkflow(agents=[planner, clerk], root_agent="planner")
    output, events = await run(workflow, "What is the weather in Paris?")
    assert [result.tool_name for result in of(events, ToolCallResult)] == ["handoff", "get_weather"]
    assert output.current_agent_name == "clerk"
    assert "sunny in" in str(output)
    assert ("Not mine." in "".join(event.thinking_delta or "" for event in of(events, AgentStream))) is streaming


class Weather(BaseModel):
    """The weather."""

    city: str
    sky: str


@pytest.mark.parametrize("model", ["qwen3.7-max", "qwen-plus", "qwen3-8b"])
async def test_the_structured_output_of_an_agent(server, model):
    agent = FunctionAgent(llm=connect(server, model, thinking=True), tools=[WEATHER], output_cls=Weather)
    output, _ = await run(agent, "What is the weather in Paris?")
    assert isinstance(output.get_pydantic_model(Weather), Weather)


async def test_an_agent_with_tools_of_an_mcp_server(server):
    client = BasicMCPClient(sys.executable, args=[str(MCP_SERVER)])
    tools = await McpToolSpec(client=client).to_tool_list_async()
    assert {tool.metadata.name for tool in tools} == {"count_stock", "find_shelf"}
    budget = ThinkingBudget(100_000, per_call=2_000)
    agent = FunctionAgent(llm=connect(server, "qwen3.7-max", thinking=True, budget=budget), tools=tools)
    output, events = await run(agent, "Call count_stock for screws")
    (result,) = of(events, ToolCallResult)
    assert "42 pieces of" in str(result.tool_output)
    assert "42 pieces of" in str(output)
    assert MARK in "".join(event.thinking_delta or "" for event in of(events, AgentStream))
    sent = {tool["function"]["name"]: tool["function"] for tool in server.bodies[0]["tools"]}
    assert sent["find_shelf"]["parameters"]["required"] == ["article"]
    assert sent["count_stock"]["description"].startswith("How many pieces of an article are in stock.")
    assert budget.spent == sum(entry.usage.reasoning for entry in budget.ledger) > 0
    assert len(budget.ledger) == len(server.bodies) == 2


async def test_a_react_agent(server):
    server.reply('Thought: I need the tool.\nAction: add\nAction Input: {"a": 1, "b": 2}', reasoning="Hm.")
    server.reply("Thought: I can answer.\nAnswer: It is 3.", reasoning="Good.")
    agent = ReActAgent(llm=connect(server, thinking=True), tools=[ADD])
    output, events = await run(agent, "1 + 2?")
    assert "It is 3." in str(output)
    assert "Hm." in "".join(event.thinking_delta or "" for event in of(events, AgentStream))


async def test_an_agent_whose_first_tool_is_forced_while_it_thinks(server):
    llm = connect(server, "qwen3.8-flash", thinking=True)
    agent = FunctionAgent(llm=llm, tools=[ADD], initial_tool_choice="add")
    output, events = await run(agent, "The sum of two numbers")
    assert [result.tool_name for result in of(events, ToolCallResult)] == ["add"]
    assert isinstance(output, AgentOutput)


async def test_reasoning_survives_memory_and_serialisation(server):
    llm = connect(server, "qwen3.8-max")
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    agent = FunctionAgent(llm=llm, tools=[ADD])
    await run(agent, "The sum of two numbers", memory=memory)
    messages = [ChatMessage.model_validate_json(message.model_dump_json()) for message in await memory.aget()]
    assert any(isinstance(block, ThinkingBlock) for message in messages for block in message.blocks)
    await llm.achat([*messages, ChatMessage("And now?")])
    assistants = [one for one in server.last.body["messages"] if one["role"] == "assistant"]
    assert all(one["reasoning_content"].startswith(MARK) for one in assistants)
    assert len(assistants) == 2


@pytest.mark.parametrize("model", ["qwen-plus", "qwen3.7-max"])
def test_a_function_calling_program(server, model):
    program = FunctionCallingProgram.from_defaults(
        Weather, prompt_template_str="The weather in {city}", llm=connect(server, model)
    )
    assert isinstance(program(city="Paris"), Weather)
    assert isinstance(list(program.stream_call(city="Paris"))[-1], Weather)


def test_predict_and_call(server):
    answer = connect(server).predict_and_call([ADD], "The sum of two numbers", allow_parallel_tool_calls=True)
    assert [source.tool_name for source in answer.sources] == ["add"]
