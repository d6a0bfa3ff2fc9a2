"""What a deep search can be told, in both frameworks, and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Self, Unpack

from qwen3_rag.answering import AnswerOptions, RagOptions
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.retrieval import check_selection


class DeepSearchOptions(RagOptions, total=False):
    """What `create_deep_search` and `create_deep_search_engine` take by name; `Limits` and `AnswerOptions` tell the meaning."""

    max_rounds: int
    max_calls: int | None
    deadline: float | None
    max_tokens: int | None
    max_sub_questions: int
    top_n: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a deep search may take.

    They bound what a deep search adds to a plain answer: searching for the question itself, reranking and answering always
    happen, so there is an answer from what had been found, whichever limit was hit.

    Attributes:
        max_rounds: Rounds of searching.
        max_calls: Calls of the model, that which answers included, but no repetitions after a failure; `None` is what the
            rounds take: one more than there are rounds, and one for a conversation.
        deadline: Seconds after which no planning or sub-question begins; `None` is none. In async code those that are
            running are then cancelled. In sync code a search runs to its end, and so does a planning call, except that our
            own chat models are given the rest of the time as the timeout of each attempt.
        max_tokens: Tokens of all calls, in and out. A planning call that would leave too little for answering from what has
            been found is not made. What the model writes counts once it is there: how long that gets, in a plan as in the
            answer, is its own limit. `None` is none.
        max_sub_questions: Sub-questions of one round.
        top_n: Passages that the answer is made from at most, of all that were found; `None` is all.
    """

    max_rounds: int = 3
    max_calls: int | None = None
    deadline: float | None = None
    max_tokens: int | None = None
    max_sub_questions: int = 4
    top_n: int | None = 10

    def __post_init__(self) -> None:
        for name in ("max_rounds", "max_calls", "max_tokens", "max_sub_questions"):
            self._check_number(name, optional=name in ("max_calls", "max_tokens"))
        seconds = self.deadline
        if seconds is not None and not (_is_number(seconds) and math.isfinite(seconds) and seconds > 0):
            raise ConfigurationError(f"deadline must be a positive number of seconds or None, got {seconds!r}")
        check_selection(self.top_n, None)

    def _check_number(self, name: str, *, optional: bool) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if not _is_number(value) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} must be a positive integer{' or None' * optional}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepOptions:
    """The settings of a deep search.

    Attributes:
        answer: Those of the answer.
        limits: Those of the search.
    """

    answer: AnswerOptions
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def of(cls, **options: Unpack[DeepSearchOptions]) -> Self:
        """Checks the options that a user gave.

        Raises:
            ConfigurationError: If one is unknown or can't work.
        """
        if unknown := sorted(options.keys() - DeepSearchOptions.__annotations__.keys()):
            known = ", ".join(DeepSearchOptions.__annotations__)
            raise ConfigurationError(f"unknown option {', '.join(map(repr, unknown))}: there are {known}")
        own = {one.name for one in fields(Limits)}
        limits: dict[str, Any] = {name: value for name, value in options.items() if name in own}
        answer: Any = {name: value for name, value in options.items() if name not in own}
        return cls(answer=AnswerOptions.of(**answer), limits=Limits(**limits))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
