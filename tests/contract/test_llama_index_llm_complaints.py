"""What users of other integrations complain about does not happen with `Qwen3LLM`; each test is named by its issue."""

from __future__ import annotations

import json

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms.llm import ToolSelection

from qwen3_rag.llama_index import Qwen3LLM
from qwen3_rag.thinking import LEARNED
from tests.chat_server import KEY, MARK, ChatServer
from tests.llama_index_llm import ADD, STREAMS, WAYS, WEATHER, ask, call, calls, connect, thoughts


@pytest.fixture
def server():
    LEARNED.clear()
    with ChatServer() as running:
        yield running


@pytest.mark.parametrize("way", WAYS)
async def test_llama_index_21582_and_21075_the_field_of_vllm_is_read(server, way):
    """`reasoning` of newer vLLMs was missed, so that there was no ThinkingBlock."""
    for face in ("vllm", "vllm-legacy"):
        last = await ask(connect(server, "Qwen/Qwen3-8B", face), way, thinking=True)
        assert isinstance(last.message.blocks[0], ThinkingBlock)
        assert thoughts(last).startswith(MARK)


async def test_llama_index_19124_an_agent_streams_its_reasoning(server):
    agent = FunctionAgent(llm=connect(server, "Qwen/Qwen3-8B", "vllm", thinking=True), tools=[ADD])
    handler = agent.run("The sum of two numbers")
    events = [event async for event in handler.stream_events() if type(event) is AgentStream]
    await handler
    first = next(event for event in events if event.thinking_delta)
    assert first.thinking_delta.startswith("Let")
    # Piece by piece, not in one; and before the text.
    assert len([event for event in events if event.thinking_delta]) > 20


@pytest.mark.parametrize("way", STREAMS)
async def test_llama_index_20063_every_server_streams_reasoning_alike(server, way):
    shapes = set()
    for face, model in (
        ("dashscope", "qwen3.7-max"),
        ("vllm", "Qwen/Qwen3-8B"),
        ("tgi", "Qwen/Qwen3-8B"),
        ("openrouter", "qwen/qwen3.5-plus"),
    ):
        responses = await call(connect(server, model, face), way, thinking=True)
        kinds = ["thinking" if one.additional_kwargs.get("thinking_delta") else "text" for one in responses]
        shapes.add("".join("t" if kind == "thinking" else "x" for kind in dict.fromkeys(kinds)))
        assert [type(block).__name__ for block in responses[-1].message.blocks] == ["ThinkingBlock", "TextBlock"]
        assert "reasoning_content" not in responses[-1].message.additional_kwargs
    assert shapes == {"tx"}


@pytest.mark.parametrize("way", STREAMS)
async def test_the_first_reasoning_delta_of_an_async_stream_is_kept(server, way):
    """The base class drops a first chunk without content, which is where vLLM's reasoning begins."""
    server.reply(deltas=[{"reasoning": "First"}, {"reasoning": " second."}, {"content": "Yes."}])
    responses = await call(connect(server, "Qwen/Qwen3-8B", "vllm"), way)
    assert responses[0].additional_kwargs["thinking_delta"] == "First"
    assert thoughts(responses[-1]) == "First second."


@pytest.mark.parametrize("way", STREAMS)
async def test_all_tool_calls_of_a_chunk_are_kept(server, way):
    """The base class looks at the first one only (`update_tool_calls`)."""

    def piece(index, call_id, name, arguments):
        return {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    begun = [piece(0, "a", "add", '{"a": 1'), piece(1, "b", "get_weather", "")]
    continued = [piece(0, "", None, ', "b": 2}'), piece(1, "", None, '{"city": "Paris"}')]
    server.reply(deltas=[{"tool_calls": begun}, {"tool_calls": continued}])
    last = await ask(connect(server), way, tools=[ADD, WEATHER])
    assert [(one.tool_call_id, one.tool_name, json.loads(one.tool_kwargs)) for one in calls(last)] == [
        ("a", "add", {"a": 1, "b": 2}),
        ("b", "get_weather", {"city": "Paris"}),
    ]


async def test_llama_index_19298_an_agent_on_dashscope_does_not_crash(server):
    agent = FunctionAgent(llm=connect(server, "qwen-plus"), tools=[ADD])
    assert "The tools say" in str(await agent.run("The sum of two numbers"))


@pytest.mark.parametrize("model", ["qwen-turbo", "qwen-plus", "qwen3.7-max", "qwen-max", "nobody-knows-it"])
def test_llama_index_14722_the_context_leaves_room_for_a_prompt(model):
    """`num_output` was the whole context, so that every prompt was too long."""
    llm = Qwen3LLM(model, api_key=KEY)
    assert llm.metadata.context_window >= 32_768
    helper = PromptHelper.from_llm_metadata(llm.metadata)
    assert helper.num_output * 10 < helper.context_window


def test_llama_index_17933_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-from-the-environment")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-vendor")
    monkeypatch.setenv("OPENAI_API_BASE", "https://api.openai.com/v1")
    llm = Qwen3LLM()
    assert llm._get_credential_kwargs()["api_key"] == "sk-from-the-environment"
    assert llm.api_base == "https://dashscope.aliyuncs.com/compatible-mode/v1"


@pytest.mark.parametrize("way", WAYS)
async def test_ragflow_8972_and_web_ui_659_a_stream_only_model_is_streamed(server, way):
    """`parameter.enable_thinking must be set to false for non-streaming calls`"""
    last = await ask(connect(server, "qwen3-8b"), way)
    assert thoughts(last).startswith(MARK)
    assert [one.status for one in server.requests] == [200]
    # Without thinking it need not be.
    await ask(connect(server, "qwen3-8b"), way, thinking=False)
    assert server.last.body["stream"] is (way in STREAMS)


@pytest.mark.parametrize("way", ["chat", "achat"])
async def test_a_stream_only_model_that_nobody_knows_is_healed_once(server, way):
    llm = connect(server, "qwen-plus", dialect="openai")
    server.fail("stream_only", times=1)
    first = await ask(llm, way, extra_body={"enable_thinking": True})
    assert thoughts(first).startswith(MARK)
    assert first.additional_kwargs["healed"] == ["stream"]
    assert [one.body["stream"] for one in server.requests] == [False, True]
    await ask(llm, way)
    assert [one.body["stream"] for one in server.requests] == [False, True, True]


@pytest.mark.parametrize("way", WAYS)
async def test_deepseek_v3_1376_a_forced_tool_while_thinking(server, way):
    for face, model in (("deepseek", "deepseek-v4-pro"), ("dashscope", "qwen3.7-plus"), ("dashscope", "qwen3.5-flash")):
        last = await ask(connect(server, model, face), way, "The sum", tools=[ADD], tool_required=True, thinking=True)
        assert [one.tool_name for one in calls(last)] == ["add"]
        assert thoughts(last)
        assert last.additional_kwargs["notes"]


@pytest.mark.parametrize("way", WAYS)
async def test_qwen3_1817_a_call_that_is_only_thought_of_is_no_call(server, way):
    """What stands in the reasoning is not run: the model has to make the call."""
    server.reply("Done.", reasoning='I call <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>')
    llm = connect(server)
    last = await ask(llm, way, tools=[ADD], thinking=True)
    assert calls(last) == []
    assert llm.get_tool_calls_from_response(last, error_on_no_tool_call=False) == []


@pytest.mark.parametrize("way", WAYS)
async def test_langchain_35941_an_answer_of_nothing_but_reasoning(server, way):
    """It is an empty answer with its reasoning, and no crash."""
    server.reply("", reasoning="All is said.", finish_reason="length")
    last = await ask(connect(server, "Qwen/Qwen3-8B", "vllm"), way, thinking=True, max_tokens=5)
    assert (last.message.content, thoughts(last)) == ("", "All is said.")
    assert last.additional_kwargs["finish_reason"] == "length"


@pytest.mark.parametrize("way", WAYS)
async def test_langchain_31511_indices_of_streamed_calls_that_are_wrong(server, way):
    """SGLang continued the second call under the index of the first (sgl-project/sglang#6310)."""

    def piece(index, call_id, name, arguments):
        return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}

    pieces = [
        piece(0, "a", "add", '{"a": 1, "b": 2}'),
        piece(1, "b", "get_weather", '{"city": '),
        piece(0, None, None, '"Paris"}'),
    ]
    if way in STREAMS:
        server.reply(deltas=pieces)
        llm = connect(server, "Qwen/Qwen3-8B", "sglang")
        selections: list[ToolSelection] = llm.get_tool_calls_from_response(await ask(llm, way, tools=[ADD, WEATHER]))
    else:  # a call that is streamed inside
        server.reply(deltas=[{"reasoning_content": "Hm."}, *pieces])
        llm = connect(server)
        selections = llm.get_tool_calls_from_response(await ask(llm, way, tools=[ADD, WEATHER], thinking=True))
    assert [(one.tool_id, one.tool_name, one.tool_kwargs) for one in selections] == [
        ("a", "add", {"a": 1, "b": 2}),
        ("b", "get_weather", {"city": "Paris"}),
    ]


async def test_the_systems_own_message_is_not_the_models(server):
    """`developer` is a role that Qwen's templates don't have; they leave such a message out."""
    await ask(connect(server), "achat", [ChatMessage(role="developer", content="Be brief."), ChatMessage("Hi")])
    assert [one["role"] for one in server.last.body["messages"]] == ["system", "user"]
