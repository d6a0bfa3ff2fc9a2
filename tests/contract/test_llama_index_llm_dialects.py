"""`Qwen3LLM` on every kind of server: the wish to think translated, the reasoning found, and given back in its field."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock

from qwen3_rag.errors import ContextOverflowError
from qwen3_rag.thinking import LEARNED, ThinkingPolicy
from tests.chat_server import FACES, MARK, ChatServer
from tests.llama_index_llm import ADD, WAYS, ask, call, calls, connect, thoughts

MODELS = {
    "dashscope": "qwen3.7-max",
    "openrouter": "qwen/qwen3.5-plus",
    "deepseek": "deepseek-v4-pro",
    "lmstudio": "qwen3-8b",
    "lmstudio-separate": "qwen3-8b",
    "ollama": "qwen3:8b",
}
FIELDS = {"vllm": "reasoning", "vllm-legacy": "reasoning", "ollama": "reasoning", "openrouter": "reasoning_details"}
OFF = {
    **{face: {"enable_thinking": False} for face in ("dashscope", "modelscope", "siliconflow")},
    **{
        face: {"chat_template_kwargs": {"enable_thinking": False}}
        for face in ("vllm", "vllm-legacy", "sglang", "llamacpp")
    },
    "ollama": {"reasoning_effort": "none"},
    "openrouter": {"reasoning": {"enabled": False}},
    "deepseek": {"thinking": {"type": "disabled"}},
}
BUDGET = {
    **{face: {"thinking_budget": 4096} for face in ("dashscope", "modelscope", "siliconflow")},
    **{face: {"thinking_token_budget": 4096} for face in ("vllm", "vllm-legacy")},
    "sglang": {"custom_params": {"thinking_budget": 4096}},
    "llamacpp": {"thinking_budget_tokens": 4096},
    "ollama": {"reasoning_effort": "low"},
    "openrouter": {"reasoning": {"max_tokens": 4096}},
}


@pytest.fixture
def server():
    LEARNED.clear()
    with ChatServer() as running:
        yield running


def model_of(face: str) -> str:
    return MODELS.get(face, "Qwen/Qwen3-8B")


def contains(body: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(body, dict) and all(name in body and contains(body[name], part[name]) for name in part)
    return bool(body == part)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("thinking", [True, False])
async def test_thinking_is_switched_and_read(server, face, way, thinking):
    responses = await call(connect(server, model_of(face), face), way, thinking=thinking)
    assert server.last.thinks is thinking
    last = responses[-1]
    assert last.message.content.startswith("Hello, this is")
    assert thoughts(last).startswith(MARK) is thinking
    for response in responses:
        assert MARK not in (response.message.content or "")
        assert "think>" not in (response.message.content or "") + thoughts(response)
    if not thinking and face in OFF:
        assert contains(server.last.body, OFF[face])
    if "stream" in way:
        assert "".join(response.delta for response in responses) == last.message.content
        deltas = [response.additional_kwargs.get("thinking_delta", "") for response in responses]
        assert "".join(deltas) == thoughts(last)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", BUDGET)
async def test_a_budget(server, face, way):
    last = await ask(connect(server, model_of(face), face), way, thinking=4096)
    assert contains(server.last.body, BUDGET[face])
    assert thoughts(last)
    # Two spellings of how much to think never go out together.
    assert ("reasoning_effort" in server.last.body) is (face == "ollama")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", FACES)
async def test_tools_while_thinking(server, face, way):
    llm = connect(server, model_of(face), face)
    last = await ask(llm, way, "Give me the sum of two numbers", tools=[ADD], thinking=True)
    (block,) = calls(last)
    assert block.tool_name == "add"
    assert thoughts(last).startswith(MARK)
    (selection,) = llm.get_tool_calls_from_response(last)
    assert selection.tool_kwargs.keys() == {"a", "b"}
    result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": selection.tool_id})
    history = [ChatMessage("Give me the sum of two numbers"), last.message, result]
    again = await ask(llm, way, history, tools=[ADD], thinking=True)
    assert "The tools say: 3" in again.message.content
    sent = server.last.body["messages"][1]
    field = FIELDS.get(face, "reasoning_content")
    given_back = {name: sent.get(name) for name in ("reasoning", "reasoning_content", "reasoning_details")}
    assert [name for name, value in given_back.items() if value] == [field]
    if field != "reasoning_details":
        assert sent[field] == thoughts(last)
    else:
        assert "".join(item["text"] for item in sent[field]) == thoughts(last)
        assert sent[field] == last.message.blocks[0].additional_information["reasoning_details"]


HISTORY = [
    ChatMessage("One?"),
    ChatMessage(role="assistant", blocks=[ThinkingBlock(content="First."), TextBlock(text="One.")]),
    ChatMessage("Two?"),
    ChatMessage(
        role="assistant",
        blocks=[ThinkingBlock(content="Second."), ToolCallBlock(tool_call_id="c", tool_name="add", tool_kwargs="{}")],
    ),
    ChatMessage(role="tool", content="2", additional_kwargs={"tool_call_id": "c"}),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("model", "history", "sent"),
    [
        ("qwen-plus", "auto", [None, "Second."]),
        ("qwen3.8-max", "auto", ["First.", "Second."]),
        ("qwen-plus", "strip", [None, None]),
        ("qwen-plus", "preserve", ["First.", "Second."]),
        ("qwen3.8-max", "tools", [None, "Second."]),
    ],
)
async def test_earlier_reasoning(server, way, model, history, sent):
    before = [message.model_copy(deep=True) for message in HISTORY]
    await ask(connect(server, model, thinking=ThinkingPolicy(history=history)), way, HISTORY)
    assistants = [one for one in server.last.body["messages"] if one["role"] == "assistant"]
    assert [one.get("reasoning_content") for one in assistants] == sent
    assert server.last.body.get("preserve_thinking") is (True if "First." in sent else None)
    assert before == HISTORY


@pytest.mark.parametrize("way", WAYS)
async def test_deepseek_wants_the_reasoning_of_all_tool_turns(server, way):
    """https://github.com/langchain-ai/langchain/issues/37390: a 400 in the second turn of an agent."""
    llm = connect(server, "deepseek-v4-pro", "deepseek")
    last = await ask(llm, way, [*HISTORY[2:], ChatMessage(role="assistant", content="2."), ChatMessage("Three?")][:-2])
    assert last.message.content
    later = [*HISTORY[2:], last.message, ChatMessage("Three?")]
    assert (await ask(llm, way, later)).message.content
    assert server.last.status == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("face", "sends"),
    [
        ("vllm", True),
        ("sglang", True),
        ("llamacpp", True),
        ("ollama", True),
        ("dashscope", False),
        ("openrouter", False),
        ("deepseek", False),
    ],
)
async def test_presets_are_for_self_hosted_servers(server, face, sends, way):
    names = ("temperature", "top_p", "top_k", "min_p")
    llm = connect(server, "Qwen/Qwen3-8B" if sends else model_of(face), face)
    await ask(llm, way, thinking=True)
    thinking = [server.last.body.get(name) for name in names]
    await ask(llm, way, thinking=False)
    answering = [server.last.body.get(name) for name in names]
    assert (thinking, answering) == (([0.6, 0.95, 20, 0.0], [0.7, 0.8, 20, 0.0]) if sends else ([None] * 4, [None] * 4))
    await ask(llm, way, thinking=True, temperature=0.9, extra_body={"top_k": 5})
    assert [server.last.body.get(name) for name in ("temperature", "top_k")] == [0.9, 5]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", FACES)
async def test_overflow_of_the_context(face, way):
    with ChatServer(context_tokens=20) as small:
        with pytest.raises(ContextOverflowError) as caught:
            await ask(connect(small, model_of(face), face), way, "word " * 50)
        assert caught.value.request_id == small.last.request_id
