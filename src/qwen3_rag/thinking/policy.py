"""What the user asks for (`ThinkingPolicy`) and what one call does (`Decision`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from qwen3_rag.errors import ConfigurationError

Effort: TypeAlias = Literal["low", "medium", "high"]
HistoryMode: TypeAlias = Literal["auto", "strip", "tools", "preserve"]
Source: TypeAlias = Literal["default", "asked", "auto", "session budget", "model", "learned"]

EFFORT_BUDGETS: Final[Mapping[Effort, int]] = MappingProxyType({"low": 4096, "medium": 16_384, "high": 262_144})
"""Reasoning tokens that an effort stands for: DashScope's documented table, whose `xhigh` is `high` here.

Source: https://help.aliyun.com/zh/model-studio/qwen-api-via-openai-chat-completions (`reasoning_effort`).
"""

_EFFORTS: Final = get_args(Effort)
_WAYS: Final = (
    "True, False, 'low', 'medium', 'high', 'auto', a positive number of reasoning tokens, a ThinkingPolicy, or None for "
    "the model's own default"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How sure retrieval is of what it found.

    Attributes:
        scores: The reranker's P(yes) of each passage that is given to the model, in any order.

    Raises:
        ConfigurationError: If a score is no probability.
    """

    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", tuple(self.scores))  # an iterator could be read only once
        for score in self.scores:
            if not (isinstance(score, Real) and 0 <= score <= 1):
                raise ConfigurationError(f"evidence is made of P(yes) between 0 and 1, got the score {score!r}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What one call does, and why.

    Attributes:
        enabled: Whether the model is told to think; `None` leaves it to the model's default.
        effort: How hard, on the scale that vendors share.
        budget: Reasoning tokens that the call may take at most. Never together with `effort`.
        reason: The reason as a sentence; it goes into the answer's metadata.
        source: Who decided.

    Raises:
        ConfigurationError: If the parts contradict each other.
    """

    enabled: bool | None
    effort: Effort | None = None
    budget: int | None = None
    reason: str = ""
    source: Source = "default"

    def __post_init__(self) -> None:
        _check(self.enabled, self.effort, self.budget)

    @property
    def asks(self) -> bool:
        """Whether there is anything to tell the server."""
        return not (self.enabled is None and self.effort is None and self.budget is None)


AutoRule: TypeAlias = Callable[[str, Evidence | None], bool | Decision]
"""Takes the question and the evidence (`None` outside a RAG chain) and says whether to think."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingPolicy:
    """What the user asks for, in full.

    Attributes:
        enabled: Think or don't; `None` leaves it to the model's default and sends nothing.
        effort: How hard to think.
        budget: Reasoning tokens of one call, more than 0. Excludes `effort`.
        auto: `True` decides per question by `qwen3_rag.thinking.auto.thinks`; a callable by the user's own rule. Excludes
            `enabled`; effort or budget apply to the calls that think.
        history: Whether earlier reasoning is sent back; `"auto"` follows the model's contract.

    Raises:
        ConfigurationError: If a part has no meaning or parts contradict each other.
    """

    enabled: bool | None = None
    effort: Effort | None = None
    budget: int | None = None
    auto: bool | AutoRule = False
    history: HistoryMode = "auto"

    def __post_init__(self) -> None:
        _check(self.enabled, self.effort, self.budget)
        if not isinstance(self.auto, bool) and not callable(self.auto):
            raise ConfigurationError(
                f"auto must be True, False or a callable (question, evidence) -> bool, got {self.auto!r}"
            )
        if self.auto and self.enabled is not None:
            raise ConfigurationError(f"auto decides whether to think, so leave enabled out, got {self.enabled!r}")
        if self.history not in get_args(HistoryMode):
            raise ConfigurationError(f"history must be one of {', '.join(get_args(HistoryMode))}, got {self.history!r}")

    @classmethod
    def of(cls, value: Thinking) -> ThinkingPolicy:
        """Reads any spelling of `thinking=`.

        Args:
            value: `True`, `False`, an effort, `"auto"`, a number of reasoning tokens, a policy, or `None` for the model's
                own default.

        Raises:
            ConfigurationError: If it is none of them.
        """
        if isinstance(value, ThinkingPolicy):
            return value
        if value is None or isinstance(value, bool):
            return cls(enabled=value)
        if isinstance(value, int):
            return cls(enabled=True, budget=value)
        if value == "auto":
            return cls(auto=True)
        if isinstance(value, str) and value in _EFFORTS:
            return cls(enabled=True, effort=value)
        raise ConfigurationError(f"thinking must be {_WAYS}; got {value!r}")

    def overruled(self, value: Thinking) -> ThinkingPolicy:
        """Returns the policy of one call that asks for something else.

        Args:
            value: Any spelling. A policy replaces this one as a whole, all others leave its `history` as it is.

        Raises:
            ConfigurationError: If it is none.
        """
        return value if isinstance(value, ThinkingPolicy) else replace(ThinkingPolicy.of(value), history=self.history)


Thinking: TypeAlias = bool | int | Effort | Literal["auto"] | ThinkingPolicy | None
"""Every spelling of `thinking=`; `ThinkingPolicy.of` reads it."""


def nearest_effort(budget: int) -> Effort:
    """Returns the effort whose documented budget is nearest, as a ratio, to a number of tokens."""
    return min(EFFORT_BUDGETS, key=lambda effort: abs(math.log(budget / EFFORT_BUDGETS[effort])))


def _check(enabled: object, effort: object, budget: object) -> None:
    """Checks the three parts that a policy and a decision share."""
    if enabled is not None and not isinstance(enabled, bool):
        raise ConfigurationError(f"enabled must be True, False or None, got {enabled!r}")
    if effort is not None and effort not in _EFFORTS:
        raise ConfigurationError(f"effort must be one of {', '.join(_EFFORTS)}, got {effort!r}")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 1):
        raise ConfigurationError(
            f"a thinking budget is a positive number of tokens, got {budget!r}; use thinking=False not to think"
        )
    if effort is not None and budget is not None:
        raise ConfigurationError(
            f"effort {effort!r} and budget {budget!r} exclude each other: give one (an effort is {dict(EFFORT_BUDGETS)})"
        )
    if enabled is False and (effort is not None or budget is not None):
        raise ConfigurationError(f"enabled=False leaves nothing for effort={effort!r} or budget={budget!r} to limit")
