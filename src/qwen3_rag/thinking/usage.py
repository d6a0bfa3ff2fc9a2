"""Token counts of one call, whatever the server calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call.

    Attributes:
        input: Tokens of the prompt, those from the cache included.
        output: Tokens that the model wrote, reasoning included.
        reasoning: Those of them that are reasoning; `None` when the server does not say.
        cached: Tokens of the prompt that were read from a cache.
        cache_creation: Tokens of the prompt that were written to a cache.
    """

    input: int = 0
    output: int = 0
    reasoning: int | None = None
    cached: int = 0
    cache_creation: int = 0

    @property
    def answer(self) -> int:
        """Output that is not reasoning; all of it when the server does not say."""
        return max(0, self.output - (self.reasoning or 0))

    @classmethod
    def read(cls, usage: Mapping[str, Any] | None) -> Usage | None:
        """Reads the `usage` object of a response.

        Understands the spellings of OpenAI (and with it DashScope, vLLM, llama.cpp, Ollama, OpenRouter), of its
        Responses interface and Anthropic's (`input_tokens`), of SGLang (`reasoning_tokens` on the upper level), of
        DeepSeek (`prompt_cache_hit_tokens`) and of Moonshot (`cached_tokens` on the upper level). Details that are
        missing or null count as not said.

        Args:
            usage: The object as it came; `None` where a stream ended without one.

        Returns:
            The counts, or `None` if there are none to be read.
        """
        if not usage:
            return None
        values = {name: _first(usage, paths) for name, paths in _PATHS.items()}
        if values["input"] is None and values["output"] is None:
            return None
        return cls(
            input=values["input"] or 0,
            output=values["output"] or 0,
            reasoning=values["reasoning"],
            cached=values["cached"] or 0,
            cache_creation=values["cache_creation"] or _lifetimes(usage),
        )


_PROMPT: Final = ("prompt_tokens_details", "input_tokens_details")
_COMPLETION: Final = ("completion_tokens_details", "output_tokens_details")

_PATHS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "input": (("prompt_tokens",), ("input_tokens",)),
    "output": (("completion_tokens",), ("output_tokens",)),
    "reasoning": (*((details, "reasoning_tokens") for details in _COMPLETION), ("reasoning_tokens",)),
    "cached": (
        *((details, "cached_tokens") for details in _PROMPT),
        ("cached_tokens",),
        ("prompt_cache_hit_tokens",),
        ("cache_read_input_tokens",),
    ),
    "cache_creation": (
        *((details, name) for details in _PROMPT for name in ("cache_creation_input_tokens", "cache_write_tokens")),
        ("cache_creation_input_tokens",),
    ),
}


def _first(usage: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> int | None:
    """Returns the first count that is there and makes sense."""
    for path in paths:
        count = _count(usage, path)
        if count is not None:
            return count
    return None


def _count(usage: Any, path: tuple[str, ...]) -> int | None:
    for name in path:
        usage = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(usage, bool) or not isinstance(usage, int | float):
        return None
    return int(usage) if 0 <= usage < float("inf") else None


def _lifetimes(usage: Mapping[str, Any]) -> int:
    """Adds up what was cached for five minutes, an hour, … where the server gives only these.

    Source: https://www.alibabacloud.com/help/en/model-studio/context-cache (`cache_creation.ephemeral_5m_input_tokens`).
    """
    for details in _PROMPT:
        created = usage.get(details)
        lifetimes = created.get("cache_creation") if isinstance(created, Mapping) else None
        if isinstance(lifetimes, Mapping):
            return sum(_count(lifetimes, (name,)) or 0 for name in lifetimes)
    return 0
