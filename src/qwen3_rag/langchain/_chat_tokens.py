"""Token counts without a download: exact with the model's own tokenizer, else a documented estimate."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

# Alibaba Cloud's rule of thumb is 1.5 to 1.8 Chinese characters, or an English word or root, to a token. The lower ends
# are taken, so that the estimate is rather too high than too low. Source:
# https://help.aliyun.com/zh/dashscope/developer-reference/tongyi-thousand-questions-metering-and-billing
_WIDE_PER_TOKEN: Final = 1.5
_OTHERS_PER_TOKEN: Final = 3.5
_WIDE: Final = re.compile("[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")

# ChatML: <|im_start|> role \n content <|im_end|> \n; the answer is opened by <|im_start|> assistant \n.
_MESSAGE_TOKENS: Final = 5
_OPENING_TOKENS: Final = 3

IMAGE_TOKENS: Final = 1280
"""What an image counts: an allowance, as its size is not known before the server scaled it."""

Count = Callable[[str], int]


def estimate_tokens(text: str) -> int:
    """Estimates how many tokens a text has: 1.5 CJK characters or 3.5 others to a token, rounded up."""
    wide = len(_WIDE.findall(text))
    return math.ceil(wide / _WIDE_PER_TOKEN + (len(text) - wide) / _OTHERS_PER_TOKEN)


def count_messages(
    messages: Sequence[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]], count: Count = estimate_tokens
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


def _content(content: Any, count: Count) -> int:
    if content is None or isinstance(content, str):
        return count(content) if content else 0
    return sum(_part(part, count) for part in content)


def _part(part: str | Mapping[str, Any], count: Count) -> int:
    if isinstance(part, str):
        return count(part)
    if "image" in str(part.get("type")):
        return IMAGE_TOKENS
    return count(str(part["text"])) if "text" in part else count(_json(part))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
