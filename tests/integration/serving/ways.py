"""Every way to chat in both frameworks, and the answer in a form in which they can be compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from qwen3_rag.langchain import ChatQwen3

types = pytest.importorskip("llama_index.core.base.llms.types", reason="these tests compare both frameworks")

Blocks = list[tuple[str, str]]
"""Kind and text of each content block."""


@dataclass(frozen=True)
class Heard:
    """An answer as the user of a framework gets it.

    Attributes:
        blocks: Of the whole message.
        tokens: Of prompt and completion.
        told: What the call did and why.
        pieces: Of a stream, in their order.
        message: The whole message, to be sent back.
    """

    blocks: Blocks
    tokens: tuple[int, int]
    told: dict[str, Any]
    pieces: Blocks | None
    message: Any


def langchain_blocks(message: AIMessage) -> Blocks:
    return [(block["type"], block.get("reasoning") or block.get("text", "")) for block in message.content_blocks]


def from_langchain(message: AIMessage, chunks: Sequence[AIMessageChunk] | None = None) -> Heard:
    blocks = langchain_blocks(message)
    assert message.text == "".join(text for kind, text in blocks if kind == "text")
    assert message.additional_kwargs.get("reasoning_content", "") == "".join(t for k, t in blocks if k == "reasoning")
    usage = message.usage_metadata
    assert usage
    return Heard(
        blocks=blocks,
        tokens=(usage["input_tokens"], usage["output_tokens"]),
        told=message.response_metadata,
        # The last chunk ends the message and adds nothing.
        pieces=None if chunks is None else [piece for chunk in chunks[:-1] for piece in langchain_blocks(chunk)],
        message=message,
    )


def added(chunks: Sequence[AIMessageChunk]) -> AIMessageChunk:
    first, *rest = chunks
    return sum(rest, first)


def llama_blocks(message: types.ChatMessage) -> Blocks:
    kinds = {types.ThinkingBlock: "reasoning", types.TextBlock: "text"}
    return [
        (kinds[type(block)], block.content if isinstance(block, types.ThinkingBlock) else block.text)
        for block in message.blocks
    ]


def from_llama_index(response: types.ChatResponse, responses: Sequence[types.ChatResponse] | None = None) -> Heard:
    blocks = llama_blocks(response.message)
    told = response.additional_kwargs
    pieces = None
    if responses is not None:
        split = [(("reasoning", r.additional_kwargs.get("thinking_delta")), ("text", r.delta)) for r in responses]
        pieces = [(kind, text) for both in split for kind, text in both if text]
    return Heard(blocks, (told["prompt_tokens"], told["completion_tokens"]), told, pieces, response.message)


def langchain(base_url: str, model: str, **options: Any) -> ChatQwen3:
    return ChatQwen3(model, base_url=base_url, dialect="transformers", timeout=60, max_retries=0, **options)


async def invoke(model: Any, messages: list[Any]) -> Heard:
    return from_langchain(model.invoke(messages))


async def ainvoke(model: Any, messages: list[Any]) -> Heard:
    return from_langchain(await model.ainvoke(messages))


async def stream(model: Any, messages: list[Any]) -> Heard:
    chunks = list(model.stream(messages))
    return from_langchain(added(chunks), chunks)


async def astream(model: Any, messages: list[Any]) -> Heard:
    chunks = [chunk async for chunk in model.astream(messages)]
    return from_langchain(added(chunks), chunks)


def llama_index(base_url: str, model: str, **options: Any) -> Any:
    from qwen3_rag.llama_index import Qwen3LLM

    return Qwen3LLM(model, base_url=base_url, dialect="transformers", timeout=60, max_retries=0, **options)


async def chat(llm: Any, messages: list[Any]) -> Heard:
    return from_llama_index(llm.chat(messages))


async def achat(llm: Any, messages: list[Any]) -> Heard:
    return from_llama_index(await llm.achat(messages))


async def stream_chat(llm: Any, messages: list[Any]) -> Heard:
    responses = list(llm.stream_chat(messages))
    return from_llama_index(responses[-1], responses)


async def astream_chat(llm: Any, messages: list[Any]) -> Heard:
    responses = [response async for response in await llm.astream_chat(messages)]
    return from_llama_index(responses[-1], responses)


@dataclass(frozen=True)
class Way:
    """One way to chat.

    Attributes:
        model: Makes the framework's model.
        question: The framework's message of a user.
        send: Sends messages and gathers the answer.
    """

    model: Callable[..., Any]
    question: Callable[[str], Any]
    send: Callable[[Any, list[Any]], Awaitable[Heard]]

    async def ask(self, base_url: str, model: str, *said: Any, **options: Any) -> Heard:
        """Sends a conversation; what is a string in it is said by the user."""
        messages = [self.question(one) if isinstance(one, str) else one for one in said]
        return await self.send(self.model(base_url, model, **options), messages)

    def __str__(self) -> str:
        return f"{self.model.__name__}-{self.send.__name__}"


WAYS = [
    *(Way(langchain, HumanMessage, send) for send in (invoke, ainvoke, stream, astream)),
    *(Way(llama_index, types.ChatMessage, send) for send in (chat, achat, stream_chat, astream_chat)),
]
