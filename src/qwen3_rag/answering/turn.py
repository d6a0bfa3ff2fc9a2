"""One answer in the making: everything but the sending, which is all that differs between sync, async and the frameworks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from qwen3_rag.answering.answer import Answer, Citation, Piece, ReasoningPiece, SourcePassage, TextPiece
from qwen3_rag.answering.citations import CitationReader
from qwen3_rag.answering.context import Packed, pack
from qwen3_rag.answering.options import AnswerOptions
from qwen3_rag.answering.prompts import Message, answer_messages, condense_messages, nothing_found
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.texts import whole
from qwen3_rag.thinking import Decision, Evidence, Thinking, ThinkingBudget, ThinkingPolicy, Usage, thinks

_CUT: Final = frozenset({"length", "max_tokens"})  # what models call the end by their limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a framework's message tells besides its text.

    Attributes:
        usage: Its tokens.
        thinking: What `Decision` has, as a mapping, from models that say.
        notes: What the server could not do.
        finish_reason: Why it ended.
    """

    usage: Usage | None = None
    thinking: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    finish_reason: str | None = None


class AnswerTurn:
    """Answers one question, step by step: `condensing` and `condensed`, `retrieved`, then `read` and `end`.

    Args:
        options: The chain's settings.
        question: What the user asked.
        history: The conversation before it, the oldest turn first.

    Attributes:
        query: What is searched and answered: the question, or what it was rewritten to.
        given: The passages that the model is given, by their number: their positions in what was retrieved.

    Raises:
        InputError: If the question is blank.
    """

    def __init__(self, options: AnswerOptions, question: str, history: Sequence[Message] = ()) -> None:
        if not isinstance(question, str) or not question.strip():
            raise InputError(f"the question must be a string with something in it, got {question!r}")
        self.query = question
        self.given: tuple[int, ...] = ()
        self._options = options
        self._history = tuple(history)
        self._packed = Packed("", (), 0)
        self._irrelevant: tuple[SourcePassage, ...] = ()
        self._reader = CitationReader(0)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._told: list[Told] = []
        self._notes: list[str] = []
        self._timings: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Takes the time of a stage; what happens several times adds up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._timings[name] = self._timings.get(name, 0.0) + time.perf_counter() - start

    def condensing(self) -> tuple[Message, ...]:
        """Returns the messages of the call that rewrites the question; none if there is no conversation."""
        if not self._history:
            return ()
        messages, left_out = condense_messages(
            self.query, self._history, self._options.history_tokens, self._options.count
        )
        if left_out:
            self._notes.append(
                f"the oldest {left_out} messages of the conversation are over history_tokens={self._options.history_tokens} "
                "and were not read"
            )
        return messages

    def condensed(self, text: str, told: Told) -> None:
        """Takes the rewritten question."""
        self._told.append(told)
        if text.strip():
            self.query = whole(text.strip())
        else:
            self._notes.append("the model rewrote the question to nothing, so it was used as it is")

    def retrieved(self, passages: Iterable[SourcePassage]) -> None:
        """Takes what was retrieved, the best first, and packs what is relevant.

        Raises:
            ConfigurationError: If there is a threshold and a passage has no score to compare, or nothing fits.
        """
        with self.stage("pack"):
            every = [replace(passage, number=None) for passage in passages]
            relevant = [position for position, passage in enumerate(every) if self._is_relevant(passage)]
            kept = [every[position] for position in relevant]
            self._irrelevant = tuple(passage for i, passage in enumerate(every) if i not in relevant)
            self._packed = pack(kept, self._options.context_tokens, self._options.count)
            packed = zip(relevant, self._packed.passages, strict=True)
            self.given = tuple(position for position, passage in packed if passage.number is not None)
            self._reader = CitationReader(len(self.given))
            if omitted := self._packed.omitted:
                named = ", ".join(repr(passage.source or passage.id) for passage in omitted)
                self._notes.append(
                    f"{len(omitted)} of {len(kept)} passages did not fit into context_tokens="
                    f"{self._options.context_tokens}: {named}"
                )

    @property
    def found(self) -> bool:
        """Whether there is anything to answer from."""
        return bool(self._packed.text)

    def messages(self) -> tuple[Message, ...]:
        """Returns the messages of the call that answers."""
        return answer_messages(self.query, self._packed.text, self._options.instructions)

    def thinking_options(self, thinking: Thinking, budget: ThinkingBudget | None) -> dict[str, Any]:
        """Returns what the answering call of a model that takes them is given: `thinking`, `evidence`, `budget`.

        Args:
            thinking: What is asked for, the model's own setting included.
            budget: The session's budget; `None` leaves it to the model.
        """
        options: dict[str, Any] = {} if budget is None else {"budget": budget}
        if thinking is not None:
            options["thinking"] = _about(self.query, ThinkingPolicy.of(thinking))
        scores = [passage.relevance_score for passage in self._packed.passages if passage.number is not None]
        sure = tuple(score for score in scores if score is not None and 0 <= score <= 1)
        if sure and len(sure) == len(scores):
            options["evidence"] = Evidence(sure)
        return options

    def read(self, reasoning: str, text: str) -> Iterator[ReasoningPiece | TextPiece]:
        """Takes a piece of the model's answer, and yields what can be shown of it."""
        if reasoning:
            self._reasoning.append(reasoning)
            yield ReasoningPiece(reasoning)
        yield from self._show(self._reader.feed(text))

    def end(self, told: Told | None = None) -> Iterator[Piece]:
        """Ends the answer: yields what was held back, and the whole.

        Args:
            told: What the answering call told; `None` if nothing was found and none was made.
        """
        if told is None:
            yield from self._show(self._not_found())
        else:
            self._told.append(told)
            yield from self._show(self._reader.close())
        yield self._answer(told)

    def _answer(self, told: Told | None) -> Answer:
        given = {passage.number: passage for passage in self._packed.passages if passage.number is not None}
        if told is not None:
            self._look_at_the_answer(told)
        return Answer(
            text="".join(self._text),
            question=self.query,
            found=self.found,
            citations=tuple(Citation(given[mark.number], mark.start, mark.end) for mark in self._reader.marks),
            invalid_citations=tuple(self._reader.invalid),
            reasoning="".join(self._reasoning),
            passages=self._packed.passages + self._irrelevant,
            usage=_total([one.usage for one in self._told]),
            timings=dict(self._timings),
            thinking=None if told is None or told.thinking is None else Decision(**told.thinking),
            notes=tuple(dict.fromkeys([*self._notes, *(note for one in self._told for note in one.notes)])),
        )

    def _look_at_the_answer(self, told: Told) -> None:
        if (told.finish_reason or "").lower() in _CUT:
            self._notes.append("the answer was cut at the model's token limit")
        if invalid := self._reader.invalid:
            numbers = ", ".join(map(str, invalid))
            self._notes.append(f"the model cited {numbers}, which no passage has; these were removed")
        if not self._reader.marks:
            self._notes.append("the answer cites no passage")

    def _show(self, text: str) -> Iterator[TextPiece]:
        if text:
            self._text.append(text)
            yield TextPiece(text)

    def _is_relevant(self, passage: SourcePassage) -> bool:
        threshold = self._options.score_threshold
        if threshold is None:
            return True
        if passage.relevance_score is None:
            raise ConfigurationError(
                f"score_threshold={threshold!r} is compared with the reranker's P(yes), but the passages that were retrieved "
                "have no relevance_score: use a Qwen3Retriever, or leave the threshold out"
            )
        return passage.relevance_score >= threshold

    def _not_found(self) -> str:
        said = self._options.not_found
        if said is None:
            return nothing_found(self.query)
        return said if isinstance(said, str) else said(self.query)


def last_answer(pieces: Iterable[Piece]) -> Answer:
    """Returns the answer at the end of a stream's pieces."""
    *_, last = pieces
    return cast("Answer", last)  # as every turn ends


def _about(question: str, policy: ThinkingPolicy) -> ThinkingPolicy:
    """Lets `auto` judge the question alone: the prompt also has the passages, whose words ask for nothing."""
    if not policy.auto:
        return policy
    rule = policy.auto if callable(policy.auto) else thinks
    return replace(policy, auto=lambda _, evidence: rule(question, evidence))


def _total(usages: Iterable[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    reasoning = [usage.reasoning for usage in known if usage.reasoning is not None]
    return Usage(
        input=sum(usage.input for usage in known),
        output=sum(usage.output for usage in known),
        reasoning=sum(reasoning) if reasoning else None,
        cached=sum(usage.cached for usage in known),
        cache_creation=sum(usage.cache_creation for usage in known),
    )
