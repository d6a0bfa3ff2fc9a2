"""One deep search in the making: what to do next, by what came back. Whoever drives it does the sending."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Generic, TypeVar

from typing_extensions import override

from qwen3_rag.answering import Answer, AnswerTurn, Message, SourcePassage, Told, pack
from qwen3_rag.deep_search.objects import Decomposition, Object, Reflection, read_object
from qwen3_rag.deep_search.options import DeepOptions
from qwen3_rag.deep_search.pool import Pool
from qwen3_rag.deep_search.prompts import decompose_messages, reflect_messages
from qwen3_rag.deep_search.steps import Ask, Rerank, Search, Stage, Step
from qwen3_rag.deep_search.trace import DeepAnswer, Limit, Round, SearchTrace, SubQuestion
from qwen3_rag.errors import ConfigurationError

T = TypeVar("T")

_LONGEST_QUESTION: Final = 500  # characters; what is longer is no sub-question, and embedders would cut it
_INSTEAD: Final[Mapping[Stage, str]] = {
    "decompose": "the question was searched for as it is",
    "reflect": "the search ended with what had been found",
}


@dataclass(frozen=True, slots=True)
class _Verdict:
    enough: bool | None = None
    gaps: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


class DeepTurn(AnswerTurn, Generic[T]):
    """Answers one question after a deep search: `condensing` and `condensed`, all `steps`, then `read` and `end`.

    Example:
        ```python
        for step in turn.steps():
            match step:
                case Ask():
                    step.said = ask(step.messages, step.kind)
                case Search():
                    step.found = {question: retrieve(question) for question in step.questions}
                case Rerank():
                    step.ranked = rerank(step.question, step.items)
        ```

    Args:
        options: The settings.
        read: Makes a passage of a framework's own object.
        question: What the user asked.
        history: The conversation before it, the oldest turn first.
        reranks: Whether there is a reranker; without one candidates are ordered by their ranks.
        clock: Gives seconds that never run backwards.

    Attributes:
        items: After the last step: the framework's objects that the answer is made from, at the positions that `given` has.

    Raises:
        InputError: If the question is blank.
        ConfigurationError: If `max_calls` has no room for rewriting it after the conversation.
    """

    def __init__(
        self,
        options: DeepOptions,
        read: Callable[[T], SourcePassage],
        question: str,
        history: Sequence[Message] = (),
        *,
        reranks: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(options.answer, question, history)
        self._limits = options.limits
        if history and self._limits.max_calls == 1:
            raise ConfigurationError(
                "max_calls=1 is the call that answers, and none is left to rewrite the question after a conversation: raise "
                "max_calls, or ask without chat_history"
            )
        self.items: list[T] = []
        self._passage = read
        self._reranks = reranks
        self._clock = clock
        self._began = clock()
        self._pool = Pool(read)
        self._asked: dict[str, str] = {}
        self._rounds: list[Round] = []
        self._limit: Limit | None = None
        self._calls = 0
        self._tokens = 0

    @override
    def condensed(self, text: str, told: Told) -> None:
        self._spend(super().condensing(), text, told)
        super().condensed(text, told)

    def steps(self) -> Iterator[Step[T]]:
        """Yields what is to be done, each to be filled in before the next is asked for.

        After the last one the passages are packed, as `AnswerTurn.retrieved` does.
        """
        asked = self._fresh([self.query], 1) + (yield from self._decomposed())
        for number in range(1, self._limits.max_rounds + 1):
            began = self._clock()
            searched = yield from self._searched(number, asked)
            verdict = yield from self._reflected(number)
            seconds = self._clock() - began
            self._rounds.append(
                Round(sub_questions=searched, enough=verdict.enough, gaps=verdict.gaps, seconds=seconds)
            )
            if not (asked := verdict.questions):
                break
        self.items = self._pool.best(self._limits.top_n)
        self.retrieved(map(self._passage, self.items))

    # The steps.

    def _decomposed(self) -> Generator[Step[T], None, tuple[str, ...]]:
        most = self._limits.max_sub_questions
        plan = yield from self._plan("decompose", Decomposition, decompose_messages(self.query, most))
        return () if plan is None else self._fresh(plan.questions, most)

    def _searched(self, number: int, asked: tuple[str, ...]) -> Generator[Step[T], None, tuple[SubQuestion, ...]]:
        in_time = tuple(one for one in asked if (left := self._seconds_for(one)) is None or left > 0)
        step: Search[T] = Search(round=number, questions=in_time, seconds_for=self._seconds_for)
        if in_time:
            with self.stage("search"):
                yield step
        found = {one: items for one, items in step.found.items() if one not in step.late}
        if found.keys() != set(asked):
            self._stop("deadline")
        new, candidates = self._pool.add(found)
        if self._reranks and candidates:
            scoring = Rerank(question=self.query, items=candidates)
            with self.stage("rerank"):
                yield scoring
            self._pool.rank(scoring.ranked)
        return tuple(
            SubQuestion(text=one, passages=len(found[one]), new=new[one])
            if one in found
            else SubQuestion(text=one, finished=False)
            for one in asked
        )

    def _reflected(self, number: int) -> Generator[Step[T], None, _Verdict]:
        if number == self._limits.max_rounds:
            self._limit = self._limit or "max_rounds"
            return _Verdict()
        most = self._limits.max_sub_questions
        messages = reflect_messages(self.query, self._context(), self._asked.values(), most)
        said = yield from self._plan("reflect", Reflection, messages)
        if said is None or said.enough:
            return _Verdict(None if said is None else True)
        return _Verdict(False, tuple(said.gaps[:most]), self._fresh(said.questions, most))

    def _plan(
        self, stage: Stage, kind: type[Object], messages: tuple[Message, ...]
    ) -> Generator[Step[T], None, Object | None]:
        """Asks for an object, if the limits leave room; `None` if they don't, time ran out, or it can't be read."""
        left = self._left()
        if (limit := self._forbids(messages, left)) is not None:
            self._stop(limit)
            return None
        step = Ask(stage=stage, messages=messages, kind=kind, seconds=left)
        with self.stage(stage):
            yield step
        if step.said is None:
            self._spend(messages, "", Told())  # the server has read the prompt, at least
            self._stop("deadline")
            return None
        self._told.append(step.said.told)
        self._spend(messages, step.said.text, step.said.told)
        read = read_object(kind, step.said.text)
        if read is None:
            self._notes.append(f"the model's answer to {stage!r} can't be read as {kind.__name__}: {_INSTEAD[stage]}")
        return read

    # Limits.

    def _forbids(self, messages: Iterable[Message], left: float | None) -> Limit | None:
        most = self._limits
        if most.max_calls is not None and self._calls + 2 > most.max_calls:  # this one, and the one that answers
            return "max_calls"
        if left is not None and left <= 0:
            return "deadline"
        if most.max_tokens is None:
            return None
        answering = self._options.count(self._context()) + self._size(self.messages())
        return "max_tokens" if self._tokens + self._size(messages) + answering > most.max_tokens else None

    def _left(self) -> float | None:
        if self._limits.deadline is None:
            return None
        return self._began + self._limits.deadline - self._clock()

    def _seconds_for(self, question: str) -> float | None:
        return None if question == self.query else self._left()

    def _stop(self, limit: Limit) -> None:
        if self._limit is None:
            self._limit = limit
            value = getattr(self._limits, limit)
            self._notes.append(f"{limit}={value} ended the search: the answer is made from what had been found by then")

    def _spend(self, messages: Iterable[Message], said: str, told: Told) -> None:
        self._calls += 1
        if told.usage is not None:
            self._tokens += told.usage.input + told.usage.output
        else:
            self._tokens += self._size(messages) + self._options.count(said)

    def _size(self, messages: Iterable[Message]) -> int:
        return sum(self._options.count(text) for _, text in messages)

    # What was asked, and what was found.

    def _fresh(self, questions: Iterable[str], most: int) -> tuple[str, ...]:
        """Keeps the questions that were not asked before, and remembers them."""
        new: dict[str, str] = {}
        for one in questions:
            text = one if one == self.query else " ".join(one.split())
            key = " ".join(unicodedata.normalize("NFKC", one).casefold().split())
            if key and key not in self._asked:
                new.setdefault(key, text)
        long = [key for key, text in new.items() if len(text) > _LONGEST_QUESTION and text != self.query]
        if long:
            self._notes.append(f"{len(long)} sub-questions of more than {_LONGEST_QUESTION} characters were left out")
        kept = [(key, text) for key, text in new.items() if key not in long]
        if kept[most:]:
            left_out = ", ".join(repr(text) for _, text in kept[most:])
            self._notes.append(f"sub-questions beyond max_sub_questions={most} were left out: {left_out}")
        self._asked |= dict(kept[:most])
        return tuple(text for _, text in kept[:most])

    def _context(self) -> str:
        """The passages as the answer would be given them now."""
        passages = map(self._passage, self._pool.best(self._limits.top_n))
        relevant = [passage for passage in passages if self._is_relevant(passage)]
        return pack(relevant, self._options.context_tokens, self._options.count).text

    # The answer.

    @override
    def _answer(self, told: Told | None) -> DeepAnswer:
        answer = super()._answer(told)
        if told is not None:
            self._spend(self.messages(), answer.reasoning + answer.text, told)
        trace = SearchTrace(
            rounds=tuple(self._rounds),
            limit=self._limit,
            calls=self._calls,
            tokens=self._tokens,
            candidates=len(self._pool),
            seconds=self._clock() - self._began,
        )
        return DeepAnswer(**{one.name: getattr(answer, one.name) for one in fields(Answer)}, trace=trace)
