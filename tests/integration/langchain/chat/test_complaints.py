"""What people complained of in other integrations, each by the name of its issue: it does not happen here."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from tests.chat_server import MARK
from tests.integration.langchain.chat.ways import WAYS


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


class Report(BaseModel):
    """What the weather is like."""

    city: str


ASK = {"messages": [HumanMessage("What is the weather in Paris?")]}


def reasoning(message):
    return message.additional_kwargs.get("reasoning_content", "")


def test_langchain_qwq_23_structured_output_turns_thinking_off_for_good(server, chat):
    """https://github.com/yigit353/langchain-qwq/issues/23."""
    model = chat(thinking=True)
    out = model.with_structured_output(Report, include_raw=True).invoke("Paris")
    assert reasoning(out["raw"]).startswith(MARK)
    assert reasoning(model.invoke("Hi")).startswith(MARK)
    assert all(request.thinks for request in server.requests)


def test_langchain_qwq_21_ollama_thinks_though_told_not_to(server, chat):
    """https://github.com/yigit353/langchain-qwq/issues/21."""
    model = chat("qwen3:8b", face="ollama", dialect="ollama", thinking=False)
    for way in WAYS.values():
        message = way(model, "Hi")
        assert not server.last.thinks
        assert "think>" not in message.text
        assert reasoning(message) == ""


def test_langchain_35059_reasoning_of_compatible_servers_is_dropped(server, chat):
    """https://github.com/langchain-ai/langchain/issues/35059, 35006, 37959, 37960, 31766."""
    for face, dialect, name in (
        ("vllm", "vllm", "Qwen/Qwen3-8B"),
        ("deepseek", "deepseek", "deepseek-v4"),
        ("dashscope", "dashscope", "qwen-plus"),
    ):
        for way in WAYS.values():
            message = way(chat(name, face=face, dialect=dialect, thinking=True), "Hi")
            assert message.content_blocks[0]["type"] == "reasoning"
            assert reasoning(message).startswith(MARK)


def test_langchain_35941_answers_that_are_only_reasoning_look_empty(server, chat):
    """https://github.com/langchain-ai/langchain/pull/35941."""
    server.reply("", reasoning="All that I have.", finish_reason="length", times=4)
    for way in WAYS.values():
        message = way(chat("Qwen/Qwen3-8B", face="vllm", dialect="vllm"), "Hi")
        assert message.text == ""
        assert message.content_blocks == [{"type": "reasoning", "reasoning": "All that I have."}]
        assert message.response_metadata["finish_reason"] == "length"


def test_langchain_37390_deepseek_refuses_loops_without_their_reasoning(server, chat):
    """https://github.com/langchain-ai/langchain/issues/37390, 34166, 37713, 39370."""
    agent = create_agent(chat("deepseek-v4", face="deepseek", dialect="deepseek", thinking=True), [get_weather])
    state = agent.invoke(ASK)
    state = agent.invoke({"messages": [*state["messages"], HumanMessage("What is the weather in Rome?")]})
    assert "It is sunny in Rome." in state["messages"][-1].text
    refused = [request for request in server.requests if request.status != 200]
    assert len(refused) <= 1  # that once, a lesson is learnt
    assert all(
        message["reasoning_content"] for message in server.last.body["messages"] if message["role"] == "assistant"
    )


def test_langchain_40769_any_tool_is_invalid_while_thinking_by_default(server, chat):
    """https://github.com/langchain-ai/langchain/issues/40769."""
    for name, face, dialect in (("deepseek-v4", "deepseek", "deepseek"), ("qwen3.8-flash", "dashscope", "dashscope")):
        model = chat(name, face=face, dialect=dialect).bind_tools([get_weather], tool_choice="any")
        for way in WAYS.values():
            message = way(model, "Hello")
            assert [call["name"] for call in message.tool_calls] == ["get_weather"]  # forced, so thinking gave way
            assert message.response_metadata["notes"]


def test_langchain_35539_agents_with_a_response_format_force_a_tool(server, chat):
    """https://github.com/langchain-ai/langchain/issues/35539."""
    for name in ("qwen3.7-max", "qwen3.5-flash", "qwen3-8b"):
        agent = create_agent(chat(name, thinking=True), [get_weather], response_format=Report)
        state = agent.invoke(ASK)
        assert isinstance(state["structured_response"], Report)
        assert all(reasoning(message) for message in state["messages"] if isinstance(message, AIMessage))


def test_langchain_31511_indices_of_streamed_tools_are_inconsistent(server, chat):
    """https://github.com/langchain-ai/langchain/issues/31511: the first piece says 1, the others 0."""

    def piece(index, **function):
        return {
            "tool_calls": [{"index": index, "id": function.pop("id", ""), "type": "function", "function": function}]
        }

    deltas = [
        {"role": "assistant"},
        piece(1, id="call_1", name="get_weather", arguments=""),
        piece(0, arguments='{"city": '),
        piece(0, arguments='"Paris"}'),
    ]
    server.reply(deltas=deltas, finish_reason="tool_calls", times=4)
    for way in WAYS.values():
        [call] = way(chat(thinking=True).bind_tools([get_weather]), "Hi").tool_calls
        assert (call["name"], call["args"], call["id"]) == ("get_weather", {"city": "Paris"}, "call_1")


def test_langchain_30689_langgraph_streaming_messages_breaks_on_reasoning(server, chat):
    """https://github.com/langchain-ai/langchain/issues/30689."""
    agent = create_agent(chat(thinking=True), [get_weather])
    chunks = [
        message for message, _ in agent.stream(ASK, stream_mode="messages") if isinstance(message, AIMessageChunk)
    ]
    assert "".join(reasoning(chunk) for chunk in chunks).count(MARK) == 2  # before the tool, and before the answer
    assert "".join(chunk.text for chunk in chunks).startswith("The tools say")


def test_langchain_34082_no_reasoning_once_tools_are_bound(server, chat):
    """https://github.com/langchain-ai/langchain/issues/34082."""
    for version in ("v0", "v1"):
        state = create_agent(chat(thinking=True, output_version=version), [get_weather]).invoke(ASK)
        for message in state["messages"]:
            if isinstance(message, AIMessage):
                assert message.content_blocks[0]["type"] == "reasoning"


def test_ragflow_8972_and_web_ui_659_thinking_must_be_streamed(server, chat):
    """https://github.com/infiniflow/ragflow/issues/8972, https://github.com/browser-use/web-ui/issues/659."""
    for name in ("qwen3-8b", "qwen3-32b", "qwen3-235b-a22b"):
        for way in WAYS.values():
            assert reasoning(way(chat(name), "Hi")).startswith(MARK)  # they think by default
    assert {request.status for request in server.requests} == {200}


def test_deepseek_v3_1376_a_forced_tool_breaks_while_thinking(server, chat):
    """https://github.com/deepseek-ai/DeepSeek-V3/issues/1376."""
    model = chat("deepseek-v4", face="deepseek", dialect="deepseek", thinking=True)
    for way in WAYS.values():
        message = way(model.bind_tools([get_weather], tool_choice="get_weather"), "What is the weather in Paris?")
        assert [call["name"] for call in message.tool_calls] == ["get_weather"]
        assert reasoning(message).startswith(MARK)


def test_qwen3_1817_thinking_plans_a_call_and_leaves_it_out(server, chat):
    """https://github.com/QwenLM/Qwen3/issues/1817: a structured answer is had all the same."""
    server.reply("I will call the tool now.", reasoning="I should call Report.")
    out = chat(thinking=True).with_structured_output(Report, include_raw=True).invoke("Paris")
    assert isinstance(out["parsed"], Report)
    assert reasoning(out["raw"]) == "I should call Report."
