"""LlamaIndex messages as the JSON of Chat Completions, reasoning apart.

The converter of llama-index-llms-openai drops `ThinkingBlock`s and refuses `CachePoint` and `VideoBlock`, hence this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.llms.openai.utils import to_openai_message_dict

from qwen3_rag.errors import InputError
from qwen3_rag.thinking.bodies import json_text

WireMessage = dict[str, Any]

DETAILS = "reasoning_details"
"""Where a `ThinkingBlock` keeps OpenRouter's structured reasoning, which goes back unchanged."""

# Qwen's chat templates know four roles; a message of another one would be left out of the prompt.
_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}


def to_wire(messages: Sequence[ChatMessage]) -> list[WireMessage]:
    """Converts a conversation; the reasoning in it is left to `reasoning_of`.

    Args:
        messages: The conversation; not changed.

    Raises:
        InputError: If a message holds what its role can't carry.
    """
    return [_message(message) for message in messages]


def reasoning_of(message: ChatMessage) -> tuple[str, tuple[Any, ...]]:
    """Returns the reasoning of a message: its text and, from OpenRouter, its structured details."""
    blocks = [block for block in message.blocks if isinstance(block, ThinkingBlock)]
    details = (item for block in blocks for item in block.additional_information.get(DETAILS, ()))
    return "".join(block.content or "" for block in blocks), tuple(details)


def question_of(messages: Sequence[ChatMessage]) -> str:
    """Returns the text of the last message of the user."""
    return next((message.content or "" for message in reversed(messages) if _ROLES[message.role] == "user"), "")


def _message(message: ChatMessage) -> WireMessage:
    role = _ROLES[message.role]
    if role == "user":
        return {"role": role, "content": _content(message)}
    text = _text(message, role)
    if role == "system":
        return {"role": role, "content": text}
    if role == "tool":
        return {"role": role, "content": text, "tool_call_id": _answered_call(message)}
    extra: WireMessage = {
        key: message.additional_kwargs[key] for key in ("name", "partial") if key in message.additional_kwargs
    }
    calls = list(_tool_calls(message))
    # An empty text rather than null: DashScope and several templates take strings only.
    return {"role": role, "content": text, **extra, **({"tool_calls": calls} if calls else {})}


def _content(message: ChatMessage) -> str | list[dict[str, Any]]:
    """Returns a plain string where text is all there is, which every server takes, and parts otherwise."""
    parts: list[dict[str, Any]] = []
    for block in message.blocks:
        if isinstance(block, CachePoint):
            _mark(parts, block)
        else:
            parts.append(_part(block))
    if all(part.keys() == {"type", "text"} for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(block: Any) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, VideoBlock):
        # https://help.aliyun.com/zh/model-studio/qwen-api-via-openai-chat-completions: `video_url`, with `fps` beside it
        url = str(block.url) if block.url else block.inline_url()
        return {"type": "video_url", "video_url": {"url": url}, **({"fps": block.fps} if block.fps else {})}
    if isinstance(block, (ImageBlock, AudioBlock, DocumentBlock)):
        part: dict[str, Any] = to_openai_message_dict(ChatMessage(role=MessageRole.USER, blocks=[block]))["content"][0]  # type: ignore[assignment, index]  # one block gives one part
        return part
    raise InputError(f"a user message can't carry a {type(block).__name__}: give it as text")


def _mark(parts: list[dict[str, Any]], point: CachePoint) -> None:
    if not parts:
        raise InputError("a CachePoint stands after what is to be cached, but it is the first block of its message")
    parts[-1]["cache_control"] = {"type": point.cache_control.type}


def _text(message: ChatMessage, role: str) -> Any:
    """Returns the text of a message that can't carry anything else; parts only where a system prompt is cached."""
    allowed = (TextBlock, CachePoint) if role == "system" else (TextBlock, ThinkingBlock, ToolCallBlock)
    for block in message.blocks:
        if not isinstance(block, allowed):
            raise InputError(
                f"a message of role {role!r} carries text only on these servers, got a {type(block).__name__}: "
                "put it into a user message"
            )
    if role == "system":
        return _content(message)
    return "".join(block.text for block in message.blocks if isinstance(block, TextBlock))


def _answered_call(message: ChatMessage) -> str:
    call = message.additional_kwargs.get("tool_call_id", message.additional_kwargs.get("call_id"))
    if not isinstance(call, str):
        raise InputError(
            f"a tool message needs additional_kwargs['tool_call_id'], the id of the call that it answers, got {call!r}"
        )
    return call


def _tool_calls(message: ChatMessage) -> Iterator[dict[str, Any]]:
    """Yields the calls of the blocks or, from integrations that have no such blocks, of `additional_kwargs`."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        yield tool_call(block.tool_call_id, block.tool_name, block.tool_kwargs)
    if blocks:
        return
    for call in message.additional_kwargs.get("tool_calls") or ():
        plain = call.model_dump() if isinstance(call, BaseModel) else call
        yield tool_call(plain.get("id"), plain["function"]["name"], plain["function"]["arguments"])


def tool_call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    """Returns a tool call as it stands in a message; arguments may be JSON already."""
    text = arguments if isinstance(arguments, str) else json_text(arguments, f"the arguments of tool {name!r}")
    return {"id": call_id or "", "type": "function", "function": {"name": name, "arguments": text or "{}"}}
