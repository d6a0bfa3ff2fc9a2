"""What a deep search tells about itself: its rounds and sub-questions, and what it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_rag.answering import Answer, Piece

Limit: TypeAlias = Literal["max_rounds", "max_calls", "deadline", "max_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubQuestion:
    """One search.

    Attributes:
        text: What was searched for.
        passages: How many were found.
        new: Those of them that nothing had found before.
        finished: Whether the search came to its end before the deadline.
    """

    text: str
    passages: int = 0
    new: int = 0
    finished: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of searching and judging.

    Attributes:
        sub_questions: What was searched for; in the first round the question itself comes first.
        enough: The verdict on all that had been found by then; `None` if none was asked for, or it could not be read.
        gaps: What the verdict missed.
        seconds: How long the round took.
    """

    sub_questions: tuple[SubQuestion, ...]
    enough: bool | None = None
    gaps: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTrace:
    """How an answer was searched for.

    Attributes:
        rounds: What was done, in its order.
        limit: Which limit ended the search; `None` if it ended by itself, because what was found was enough or the planner
            had nothing new to ask.
        calls: Calls of the model, that which answered included.
        tokens: What they took, in and out; estimated from above for calls whose usage no server told.
        candidates: How many different passages were found.
        seconds: How long all took.
    """

    rounds: tuple[Round, ...] = ()
    limit: Limit | None = None
    calls: int = 0
    tokens: int = 0
    candidates: int = 0
    seconds: float = 0.0

    @property
    def sub_questions(self) -> tuple[SubQuestion, ...]:
        """All that was searched for."""
        return tuple(one for round_ in self.rounds for one in round_.sub_questions)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepAnswer(Answer):
    """An answer after a deep search.

    `passages` are the best of all that was found; `usage` and `notes` are those of all calls; `timings` are `condense`,
    `decompose`, `search`, `rerank`, `reflect`, `pack`, `generate`, each over all rounds. In a stream the reader's time is part
    of `search` and `generate`.

    Attributes:
        trace: How it was searched for.
    """

    trace: SearchTrace = SearchTrace()


@dataclass(frozen=True, slots=True)
class SearchPiece:
    """A round of searches that begins.

    Attributes:
        round: Counted from 1.
        sub_questions: What is searched for.
    """

    round: int
    sub_questions: tuple[str, ...]


DeepPiece: TypeAlias = SearchPiece | Piece
"""What a stream of a deep search gives: its searches, then reasoning, then text, then, once, the `DeepAnswer`."""
