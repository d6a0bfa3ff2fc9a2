"""What a deep search asks of its driver. A step is filled in by whoever does it: that is all that sync and async differ in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

from qwen3_rag.answering import Message, Told

T = TypeVar("T")

Stage: TypeAlias = Literal["decompose", "reflect"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said to a planning call.

    Attributes:
        text: The arguments of its tool call, or its text.
        told: What it told besides.
    """

    text: str
    told: Told


@dataclass(slots=True, kw_only=True)
class Ask:
    """Ask the model for an object, without thinking.

    Attributes:
        stage: What for; the name of the run in traces.
        messages: The prompt.
        kind: What is asked for.
        seconds: How long it may take; `None` for as long as the model's own timeout.
        said: To be filled in; left `None` where the time was over.
    """

    stage: Stage
    messages: tuple[Message, ...]
    kind: type[BaseModel]
    seconds: float | None
    said: Said | None = None


@dataclass(slots=True, kw_only=True)
class Search(Generic[T]):
    """Retrieve for each question, at the same time.

    Attributes:
        round: Counted from 1.
        questions: What to search for.
        seconds_for: How long the search for one of them may still take, now; `None` for as long as it takes.
        found: To be filled in, by question.
        late: Those that were given up.
    """

    round: int
    questions: tuple[str, ...]
    seconds_for: Callable[[str], float | None]
    found: Mapping[str, Sequence[T]] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Rerank(Generic[T]):
    """Score candidates against the question.

    Attributes:
        question: The question.
        items: The candidates.
        ranked: To be filled in: copies with their scores, without those under the reranker's own threshold.
    """

    question: str
    items: list[T]
    ranked: Sequence[T] = ()


Step: TypeAlias = Ask | Search[T] | Rerank[T]
