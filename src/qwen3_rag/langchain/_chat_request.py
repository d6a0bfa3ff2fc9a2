"""LangChain's messages and payload, as the core takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from openai.resources.chat import Completions

from qwen3_rag.langchain._chat_blocks import DETAILS_KEY, reasoning_text
from qwen3_rag.langchain._chat_format import response_format
from qwen3_rag.thinking import Pieces
from qwen3_rag.thinking.bodies import json_text

_TEXT_KEYS: Final = {"type", "text"}


@cache
def sdk_parameters() -> frozenset[str]:
    """Returns what the `openai` package can send."""
    return frozenset(inspect.signature(Completions.create).parameters) - {"self"}


def tidy_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a payload of `BaseChatOpenAI` with plain contents, and with a format as JSON."""
    tidy = {**payload, "messages": [_tidy(message) for message in payload["messages"]]}
    if isinstance(form := tidy.get("response_format"), type):
        tidy["response_format"] = response_format(form, strict=True)
    return tidy


def check_arguments(messages: Sequence[BaseMessage]) -> None:
    """Checks that the arguments of the tool calls in a conversation can be written as JSON.

    Raises:
        InputError: If not.
    """
    for message in messages:
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            json_text(call["args"], f"the arguments of tool {call['name']!r}")


def question_of(messages: Sequence[BaseMessage]) -> str:
    """Returns the text of the user's last message."""
    return next((message.text for message in reversed(messages) if isinstance(message, HumanMessage)), "")


def reasoning_of(message: BaseMessage) -> Pieces | None:
    """Returns the reasoning of an earlier answer."""
    if not isinstance(message, AIMessage):
        return None
    return Pieces(reasoning=reasoning_text(message), details=tuple(message.additional_kwargs.get(DETAILS_KEY) or ()))


def _tidy(message: Mapping[str, Any]) -> dict[str, Any]:
    """Writes content as a string where that says the same: text models want it so, of assistants and tools all models."""
    content = message.get("content")
    if not content and message["role"] in ("assistant", "tool"):
        return {**message, "content": ""}
    if not content or not isinstance(content, list):
        return dict(message)
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    plain = all(part.keys() == _TEXT_KEYS for part in parts)
    return {**message, "content": "".join(part["text"] for part in parts) if plain else parts}
