"""DashScope's explicit context cache: which prefix of the messages to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from qwen3_rag.errors import ConfigurationError

MAX_CACHE_MARKERS: Final = 4
"""Markers that one request may have."""


def cache_prefix(messages: Sequence[BaseMessage], *ends: int) -> list[BaseMessage]:
    """Marks where prefixes that DashScope shall keep in its explicit context cache end.

    Everything from the first message up to and including a marked one is written to the cache (at 125 % of the input
    price) and read from it by later requests that begin with the same (at 10 %). A prefix must have 1,024 tokens at least and
    is kept for 5 minutes after its last use. What was written and read is in the answer's
    `usage_metadata["input_token_details"]`: `cache_creation` and `cache_read`.

    Source: https://www.alibabacloud.com/help/en/model-studio/context-cache

    Args:
        messages: The messages of a call; left as they are.
        *ends: Positions of the marked messages, negative ones from the end; without any, the leading system messages
            are the prefix. Only system and user messages can be marked: the others' content must be a plain string.

    Returns:
        Copies of the marked messages, whose last content part has `cache_control`, and the other messages.

    Raises:
        ConfigurationError: If a position has no message that can be marked, or there would be more than four markers.

    Example:
        ```python
        messages = cache_prefix([SystemMessage(handbook), HumanMessage(question)])
        answer = model.invoke(messages)
        ```
    """
    marked = list(messages)
    for end in ends or [_leading_system(messages)]:
        if not -len(marked) <= end < len(marked):
            raise ConfigurationError(f"there is no message {end} to mark: the call has {len(marked)} messages")
        marked[end] = _mark(marked[end], end)
    count = sum(_markers(message) for message in marked)
    if count > MAX_CACHE_MARKERS:
        raise ConfigurationError(f"{count} cache markers: DashScope takes at most {MAX_CACHE_MARKERS} in one request")
    return marked


def _leading_system(messages: Sequence[BaseMessage]) -> int:
    count = 0
    while count < len(messages) and isinstance(messages[count], SystemMessage):
        count += 1
    if not count:
        raise ConfigurationError("the call begins with no system message: say which messages end a prefix")
    return count - 1


def _mark(message: BaseMessage, position: int) -> BaseMessage:
    if not isinstance(message, HumanMessage | SystemMessage):
        raise ConfigurationError(
            f"message {position} is of type {message.type!r}: only system and user messages take a cache marker"
        )
    parts: list[Any] = [message.content] if isinstance(message.content, str) else list(message.content)
    if not parts or not parts[-1]:
        raise ConfigurationError(f"message {position} is empty: there is nothing to cache")
    last = {"type": "text", "text": parts[-1]} if isinstance(parts[-1], str) else parts[-1]
    return message.model_copy(update={"content": [*parts[:-1], {**last, "cache_control": {"type": "ephemeral"}}]})


def _markers(message: BaseMessage) -> int:
    return sum(isinstance(part, dict) and "cache_control" in part for part in message.content)
