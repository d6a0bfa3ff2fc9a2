"""The standard content blocks of a message of `ChatQwen3`: reasoning, text, tool calls.

LangChain asks the translator that is registered for `response_metadata["model_provider"]`. Importing this module registers
ours; a message that is read without it falls back to LangChain's best effort, which finds the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.block_translators import register_translator
from langchain_core.messages.content import KNOWN_BLOCK_TYPES, ContentBlock

PROVIDER: Final = "qwen"
"""`model_provider` of every message."""

REASONING_KEY: Final = "reasoning_content"
"""Where `additional_kwargs` holds the reasoning as one string; the key is absent when there is none."""

DETAILS_KEY: Final = "reasoning_details"
"""Where `additional_kwargs` holds what OpenRouter wants back unchanged."""

# Pieces of one block are merged by their index. Tool calls have the numbers from 0 on, so these are strings; LangChain
# merges equal strings only when they begin with `lc_`.
_REASONING_INDEX: Final = "lc_rsn_0"
_TEXT_INDEX: Final = "lc_txt_0"


def reasoning_text(message: BaseMessage) -> str:
    """Returns the reasoning of a message, from its blocks or from `additional_kwargs`."""
    if isinstance(message.content, list):
        parts = [
            str(block.get("reasoning") or "")
            for block in message.content
            if isinstance(block, dict) and block.get("type") == "reasoning"
        ]
        if any(parts):
            return "".join(parts)
    kept = message.additional_kwargs.get(REASONING_KEY)
    return kept if isinstance(kept, str) else ""


def translate(message: AIMessage) -> list[ContentBlock]:
    """Returns the blocks of a whole message."""
    blocks = [*_reasoning_blocks(message), *_content_blocks(message)]
    present = {block.get("id") for block in blocks if block["type"] == "tool_call"}
    blocks += [
        {"type": "tool_call", "name": call["name"], "args": call["args"], "id": call["id"]}
        for call in message.tool_calls
        if call["id"] not in present
    ]
    return cast("list[ContentBlock]", blocks)


def translate_chunk(chunk: AIMessageChunk) -> list[ContentBlock]:
    """Returns the blocks of a piece of a message, with the index that pieces are merged by."""
    if chunk.chunk_position == "last":  # the whole, added up
        return translate(chunk)
    blocks = [{**block, "index": _REASONING_INDEX} for block in _reasoning_blocks(chunk)]
    blocks += [
        {**block, "index": _TEXT_INDEX} if block["type"] == "text" else block for block in _content_blocks(chunk)
    ]
    for call in chunk.tool_call_chunks:
        block = {"type": "tool_call_chunk", "id": call["id"], "name": call["name"], "args": call["args"]}
        blocks.append(block if call["index"] is None else {**block, "index": call["index"]})
    return cast("list[ContentBlock]", blocks)


def _reasoning_blocks(message: AIMessage) -> list[dict[str, Any]]:
    in_content = isinstance(message.content, list) and any(
        isinstance(block, dict) and block.get("type") == "reasoning" for block in message.content
    )
    text = reasoning_text(message)
    return [{"type": "reasoning", "reasoning": text}] if text and not in_content else []


def _content_blocks(message: AIMessage) -> Iterator[dict[str, Any]]:
    for block in [message.content] if isinstance(message.content, str) else message.content:
        if isinstance(block, str):
            if block:
                yield {"type": "text", "text": block}
        elif block.get("type") in KNOWN_BLOCK_TYPES:
            yield block
        else:
            yield {"type": "non_standard", "value": block}


register_translator(PROVIDER, translate, translate_chunk)
