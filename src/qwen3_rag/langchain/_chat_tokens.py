"""How many tokens a request has, in Qwen's chat format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from qwen3_rag.tokens import TokenCounter, estimate_tokens

# ChatML: <|im_start|> role \n content <|im_end|> \n; the answer is opened by <|im_start|> assistant \n.
_MESSAGE_TOKENS: Final = 5
_OPENING_TOKENS: Final = 3

IMAGE_TOKENS: Final = 1280
"""What an image counts: an allowance, as its size is not known before the server scaled it."""


def count_messages(
    messages: Sequence[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]], count: TokenCounter = estimate_tokens
) -> int:
    """Counts the tokens of a request in Qwen's chat format.

    Args:
        messages: Messages as they go on the wire.
        tools: Tool definitions as they go on the wire; the template prints them as JSON.
        count: Counts the tokens of a text.
    """
    total = _OPENING_TOKENS
    for message in messages:
        total += _MESSAGE_TOKENS + _content(message.get("content"), count)
        total += sum(count(_json(call["function"])) for call in message.get("tool_calls") or ())
    return total + sum(count(_json(tool)) for tool in tools)


def _content(content: Any, count: TokenCounter) -> int:
    if content is None or isinstance(content, str):
        return count(content) if content else 0
    return sum(_part(part, count) for part in content)


def _part(part: str | Mapping[str, Any], count: TokenCounter) -> int:
    if isinstance(part, str):
        return count(part)
    if "image" in str(part.get("type")):
        return IMAGE_TOKENS
    return count(str(part["text"])) if "text" in part else count(_json(part))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
