"""What an answer over passages is, and the pieces in which it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

from qwen3_rag.thinking import Decision, Usage

HEADINGS_SEPARATOR = " › "
_LABELS = ("source", "file_name", "file_path", "url", "title")


def known_score(value: Any) -> float | None:
    """Returns a score that metadata tell; `None` if a user's own metadata mean something else by that key."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that was retrieved for a question.

    Attributes:
        text: The passage.
        id: Its identifier in the store, if it has one.
        metadata: All that is known of it.
        relevance_score: The reranker's P(yes); `None` where nothing reranked.
        retrieval_score: The first stage's own number, where it gives one.
        number: Under which number the model was given it; `None` if it was not.
    """

    text: str
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    relevance_score: float | None = None
    retrieval_score: float | None = None
    number: int | None = None

    @property
    def source(self) -> str | None:
        """Where it comes from: file, address or title, and the headings that it stands under."""
        label = next((str(self.metadata[name]) for name in _LABELS if self.metadata.get(name)), None)
        headings = self.metadata.get("headings")
        named = [str(heading) for heading in headings] if isinstance(headings, list | tuple) else []
        return HEADINGS_SEPARATOR.join(filter(None, [label, *named])) or None


@dataclass(frozen=True, slots=True)
class Citation:
    """One `[n]` in an answer.

    Attributes:
        passage: What it cites.
        start: Where `[n]` begins in the answer's text.
        end: Where it ends.
    """

    passage: SourcePassage
    start: int
    end: int

    @property
    def number(self) -> int:
        """The number that the text has."""
        return self.passage.number or 0

    @property
    def source(self) -> str | None:
        """Where the passage comes from."""
        return self.passage.source


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    """A piece of the model's reasoning, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of the answer, as it comes; all of them together are `Answer.text`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer over retrieved passages. `str()` gives its text.

    Attributes:
        text: The answer. All `[n]` in its prose are citations of passages that the model was given.
        question: What was searched and answered: the question, or what it was rewritten to after a conversation.
        found: Whether anything relevant was found. If not, no model was asked to answer, and the text says so.
        citations: In the order of the text.
        invalid_citations: Numbers that the model cited and that no passage has; they were removed from the text.
        reasoning: The model's reasoning, never part of the text.
        passages: All that was retrieved, the best first; those with a `number` were given to the model.
        usage: Tokens of all calls together; `None` where no server said.
        timings: Seconds by stage, in their order: `condense`, `retrieve`, `pack`, `generate`. In a stream the last one is
            the reader's time too.
        thinking: Whether the model was told to think, and why; `None` for a model that does not say.
        notes: What else one should know: passages that did not fit, what a server could not do.
    """

    text: str
    question: str
    found: bool
    citations: tuple[Citation, ...] = ()
    invalid_citations: tuple[int, ...] = ()
    reasoning: str = ""
    passages: tuple[SourcePassage, ...] = ()
    usage: Usage | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    thinking: Decision | None = None
    notes: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[SourcePassage, ...]:
        """The passages that the model was given, by their number."""
        return tuple(passage for passage in self.passages if passage.number is not None)

    @property
    def cited(self) -> tuple[SourcePassage, ...]:
        """The passages that the answer cites, each once, by their number."""
        numbers = {citation.number for citation in self.citations}
        return tuple(passage for passage in self.given if passage.number in numbers)

    def __str__(self) -> str:
        return self.text


Piece: TypeAlias = ReasoningPiece | TextPiece | Answer
"""What a stream gives: reasoning, then text, then, once, the answer."""
