"""What a server's refusal teaches: which change to a request heals it, remembered per server and model.

The texts are the vendors' own, in both languages where they have both; https://help.aliyun.com/zh/model-studio/error-code
lists DashScope's.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from qwen3_rag.thinking.wire import WireError

FixName: TypeAlias = Literal[
    "stream",
    "thinking_on",
    "no_thinking_switch",
    "tool_choice_auto",
    "tool_choice_while_thinking",
    "smaller_budget",
    "no_budget",
    "no_json_while_thinking",
    "send_reasoning_back",
]


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing that a server has taught.

    Attributes:
        name: `stream`: it only streams. `thinking_on`: thinking can't be switched off. `no_thinking_switch`: it does not
            know the switch. `tool_choice_auto`: no tool can be forced. `tool_choice_while_thinking`: none can be forced
            while it thinks. `smaller_budget`: a thinking budget has an upper end. `no_budget`: it takes none.
            `no_json_while_thinking`: no `response_format` while it thinks. `send_reasoning_back`: it wants the reasoning
            of earlier answers.
        limit: The upper end of a budget, in tokens.
    """

    name: FixName
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    name: FixName
    text: re.Pattern[str]
    codes: tuple[str, ...] = ()


def _rule(name: FixName, *texts: str, codes: tuple[str, ...] = ()) -> _Rule:
    return _Rule(name, re.compile("|".join(texts), re.IGNORECASE | re.DOTALL), codes)


# In this order: the first that fits is taken.
_RULES: Final = (
    _rule(
        "stream",
        r"enable_thinking must be set to false for non-streaming",
        r"enable_thinking必须设置为false才能进行非流式",
        r"enable_thinking only support stream",
        r"enable thinking can not be support when `?stream=False",  # ModelScope
        r"only support stream mode",
        r"user api does not support http call",
    ),
    _rule(
        "thinking_on",
        r"enable_thinking parameter is restricted to True",
        r"Reasoning is mandatory for this endpoint",  # OpenRouter
    ),
    _rule(
        "no_thinking_switch",
        r"does not support enable_thinking",
        r"\" does not support thinking",  # Ollama
        codes=("InvalidParameter.NotSupportEnableThinking",),
    ),
    _rule(
        "tool_choice_while_thinking",
        r"tool_choice parameter does not support .* in thinking mode",
        r"Thinking mode does not support this tool_choice",  # DeepSeek
    ),
    _rule(
        "tool_choice_auto",
        r"tool_choice is one of the strings that should be",
        r"does not support this tool_choice",  # DeepSeek's older models
        r"No endpoints found that support the provided 'tool_choice'",  # OpenRouter
    ),
    _rule("smaller_budget", r"thinking_budget .*not greater than (?P<limit>\d+)"),
    _rule(
        "no_budget",
        r"thinking_budget.{0,40}not support",
        r"not support.{0,40}thinking_budget",
        r"thinking_token_budget is set but reasoning_config is not configured",  # vLLM without --reasoning-parser
    ),
    _rule("no_json_while_thinking", r"Json mode response is not supported when enable_thinking is true"),
    _rule("send_reasoning_back", r"reasoning_content.{0,40}must be passed back"),  # DeepSeek
)
_REFUSALS: Final = (400, 404, 422)


def find_fix(error: WireError) -> Fix | None:
    """Finds the change that heals a refused request.

    Args:
        error: What the server said.

    Returns:
        The fix, or `None` where nothing is known to help.
    """
    if error.kind not in ("status", "event") or error.status not in (None, *_REFUSALS):
        return None
    for rule in _RULES:
        match = rule.text.search(error.message)
        if match or error.code in rule.codes:
            limit = match.groupdict().get("limit") if match else None
            return Fix(rule.name, int(limit) if limit else None)
    return None


class Learned:
    """What servers have taught, per base URL and model. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Mapping[FixName, Fix]] = {}

    def known(self, base_url: str, model: str) -> Mapping[FixName, Fix]:
        """Returns the fixes for a model on a server, by name; later lessons don't change what was returned."""
        with self._lock:
            return self._known.get(_key(base_url, model), MappingProxyType({}))

    def add(self, base_url: str, model: str, fix: Fix) -> bool:
        """Remembers a fix; of two limits the smaller one counts.

        Returns:
            Whether it is new.
        """
        key = _key(base_url, model)
        with self._lock:
            known = self._known.get(key, {})
            old = known.get(fix.name)
            if old is not None and (fix.limit is None or (old.limit is not None and old.limit <= fix.limit)):
                return False
            self._known[key] = MappingProxyType({**known, fix.name: fix})
            return True

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._known.clear()


LEARNED: Final = Learned()
"""The memory that calls share unless they are given their own."""


def _key(base_url: str, model: str) -> tuple[str, str]:
    return base_url.rstrip("/"), model
