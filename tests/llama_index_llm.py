"""What the tests of `Qwen3LLM` share: a model on the loopback server, and the four ways to call it as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ThinkingBlock, ToolCallBlock
from llama_index.core.tools import FunctionTool

from qwen3_rag.llama_index import Qwen3LLM
from tests.chat_server import KEY, ChatServer

WAYS = ("chat", "achat", "stream_chat", "astream_chat")
STREAMS = ("stream_chat", "astream_chat")

# The dialect that a face of the server speaks.
DIALECT_OF = {"vllm-legacy": "vllm", "lmstudio-separate": "lmstudio"}


def connect(server: ChatServer, model: str = "qwen-plus", face: str = "dashscope", **options: Any) -> Qwen3LLM:
    """A model on one face of the server; it does not retry unless told to."""
    dialect = DIALECT_OF.get(face, face)
    settings = {"base_url": server.url_for(face), "dialect": dialect, "api_key": KEY, "max_retries": 0, **options}
    return Qwen3LLM(model, **settings)


async def call(
    llm: Qwen3LLM, way: str, messages: str | Sequence[ChatMessage] = "Hello there", **kwargs: Any
) -> list[ChatResponse]:
    """Calls a model in one of the four ways, with tools if there are some, and returns all responses."""
    try:
        return await _call(llm, way, messages, **kwargs)
    finally:  # closed here, as every test has a loop of its own
        if isinstance(llm, Qwen3LLM):
            llm.close()
            await llm.aclose()


async def _call(llm: Qwen3LLM, way: str, messages: str | Sequence[ChatMessage], **kwargs: Any) -> list[ChatResponse]:
    history = [ChatMessage(messages)] if isinstance(messages, str) else list(messages)
    if kwargs.get("tools"):
        method, arguments = getattr(llm, f"{way}_with_tools"), {"chat_history": history, **kwargs}
    else:
        method, arguments = getattr(llm, way), {"messages": history, **kwargs}
    if way == "chat":
        return [method(**arguments)]
    if way == "achat":
        return [await method(**arguments)]
    if way == "stream_chat":
        return list(method(**arguments))
    return [response async for response in await method(**arguments)]


async def ask(
    llm: Qwen3LLM, way: str, messages: str | Sequence[ChatMessage] = "Hello there", **kw: Any
) -> ChatResponse:
    """Calls a model and returns the last response."""
    return (await call(llm, way, messages, **kw))[-1]


def thoughts(response: ChatResponse) -> str:
    """The reasoning of a response, which stands before all else."""
    thinking = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    assert len(thinking) <= 1
    if thinking:
        assert response.message.blocks[0] is thinking[0]
    return "".join(block.content or "" for block in thinking)


def calls(response: ChatResponse) -> list[ToolCallBlock]:
    return [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def now() -> str:
    """The time of day."""
    return "noon"


WEATHER, ADD, NOW = (FunctionTool.from_defaults(fn) for fn in (get_weather, add, now))
