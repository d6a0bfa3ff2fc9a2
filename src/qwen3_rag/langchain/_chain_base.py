"""What the chains that end with an answer share: the ways in, what a call is told, and the two calls around retrieval."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config
from typing_extensions import override

from qwen3_rag.answering import Answer, AnswerOptions, AnswerTurn, Piece
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chain_parts import Question, check_taken, own_policy, read_piece, read_told
from qwen3_rag.langchain._chat_options import configured
from qwen3_rag.thinking import ThinkingBudget, ThinkingPolicy

CONDENSE, RETRIEVE, ANSWER = "condense_question", "retrieve", "answer"
"""Names of the chains' runs in traces."""

_MODEL_OPTIONS: Final = ("thinking", "budget")

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)
AnyPiece = TypeVar("AnyPiece")


class AnsweringChain(Runnable[Question, AnyAnswer], Generic[AnyAnswer, AnyPiece]):
    """An ordinary Runnable whose stream gives the answer's pieces, then the answer.

    Args:
        retriever: What finds passages.
        llm: What answers.
        options: The settings of the answer.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    def __init__(
        self, retriever: Runnable[str, list[Document]], llm: Runnable[Any, Any], options: AnswerOptions
    ) -> None:
        for name, given, kind in (("retriever", retriever, "retriever"), ("llm", llm, "chat model")):
            if not isinstance(given, Runnable):
                raise ConfigurationError(f"{name} must be a LangChain {kind}, got {type(given).__name__}")
        self.name = type(self).__name__
        self._retriever = retriever
        self._llm = llm
        self._options = options
        self._call({}, None)  # checks what the model takes

    @abstractmethod
    def _pieces(self, given: Question, call: Call, *, stream: bool) -> Iterator[AnyPiece]:
        """Answers; the last piece is the answer."""

    @abstractmethod
    def _apieces(self, given: Question, call: Call, *, stream: bool) -> AsyncGenerator[AnyPiece, None]:
        """Async twin of `_pieces`."""

    @property
    @override
    def InputType(self) -> Any:
        """A question, or a mapping with `question` and `chat_history`."""
        return Question

    @override
    def invoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> AnyAnswer:
        function: Any = self._invoke  # LangChain also calls what takes the config without the run manager
        return self._call_with_config(function, input, config, **kwargs)

    @override
    async def ainvoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> AnyAnswer:
        function: Any = self._ainvoke
        return await self._acall_with_config(function, input, config, **kwargs)

    # A Runnable's stream gives its output type; this one gives what leads to it first. What comes behind the chain in a
    # sequence gets the last one, the answer, as the pieces do not add up.

    @override
    def stream(  # type: ignore[override]
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AnyPiece]:
        function: Any = self._stream
        pieces = self._transform_stream_with_config(iter([input]), function, config, **kwargs)
        yield from cast("Iterator[AnyPiece]", pieces)

    @override
    async def astream(  # type: ignore[override]
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AnyPiece]:
        async def inputs() -> AsyncIterator[Question]:
            yield input

        function: Any = self._astream
        pieces = self._atransform_stream_with_config(inputs(), function, config, **kwargs)
        async with aclosing(cast("AsyncGenerator[AnyPiece, None]", pieces)) as stream:
            async for piece in stream:
                yield piece

    def _invoke(self, given: Question, config: RunnableConfig, **kwargs: Any) -> AnyAnswer:
        *_, last = self._pieces(given, self._call(kwargs, config), stream=False)
        return cast("AnyAnswer", last)  # as every turn ends

    async def _ainvoke(self, given: Question, config: RunnableConfig, **kwargs: Any) -> AnyAnswer:
        *_, last = [piece async for piece in self._apieces(given, self._call(kwargs, config), stream=False)]
        return cast("AnyAnswer", last)

    def _stream(self, inputs: Iterator[Question], config: RunnableConfig, **kwargs: Any) -> Iterator[AnyPiece]:
        yield from self._pieces(next(inputs), self._call(kwargs, config), stream=True)

    async def _astream(
        self, inputs: AsyncIterator[Question], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[AnyPiece]:
        call = self._call(kwargs, config)
        async with aclosing(self._apieces(await anext(inputs), call, stream=True)) as pieces:
            async for piece in pieces:
                yield piece

    # Sync and async differ in nothing but the sending.

    def _condense(self, turn: AnswerTurn, call: Call) -> None:
        """Rewrites the question of a turn, if there is a conversation."""
        if messages := turn.condensing():
            with turn.stage("condense"):
                message = self._llm.invoke([*messages], call.named(CONDENSE), **call.for_planning())
                turn.condensed(read_piece(message)[1], read_told([message]))

    async def _acondense(self, turn: AnswerTurn, call: Call) -> None:
        if messages := turn.condensing():
            with turn.stage("condense"):
                message = await self._llm.ainvoke([*messages], call.named(CONDENSE), **call.for_planning())
                turn.condensed(read_piece(message)[1], read_told([message]))

    def _answer(self, turn: AnswerTurn, call: Call, *, stream: bool) -> Iterator[Piece]:
        """Answers a turn that has its passages; without any no model is asked."""
        read: list[AIMessage] = []
        if turn.found:
            with turn.stage("generate"):
                for message in self._ask(turn, call, stream=stream):
                    yield from turn.read(*read_piece(message))
                    read.append(message)
        yield from turn.end(read_told(read) if turn.found else None)

    async def _aanswer(self, turn: AnswerTurn, call: Call, *, stream: bool) -> AsyncGenerator[Piece, None]:
        read: list[AIMessage] = []
        if turn.found:
            with turn.stage("generate"):
                async with aclosing(self._aask(turn, call, stream=stream)) as answered:
                    async for message in answered:
                        for piece in turn.read(*read_piece(message)):
                            yield piece
                        read.append(message)
        for last in turn.end(read_told(read) if turn.found else None):
            yield last

    def _ask(self, turn: AnswerTurn, call: Call, *, stream: bool) -> Iterator[AIMessage]:
        prompt, config, options = [*turn.messages()], call.named(ANSWER), call.for_answering(turn)
        if stream:
            yield from self._llm.stream(prompt, config, **options)
        else:
            yield self._llm.invoke(prompt, config, **options)

    async def _aask(self, turn: AnswerTurn, call: Call, *, stream: bool) -> AsyncGenerator[AIMessage, None]:
        prompt, config, options = [*turn.messages()], call.named(ANSWER), call.for_answering(turn)
        if stream:
            chunks = cast("AsyncGenerator[AIMessage, None]", self._llm.astream(prompt, config, **options))
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        else:
            yield await self._llm.ainvoke(prompt, config, **options)

    def _call(self, given: Mapping[str, Any], config: RunnableConfig | None) -> Call:
        """Sorts out what a call is told: `bind` wins over the config, as for the model itself, and both over the chain."""
        policy, bound = own_policy(self._llm)
        chain = {name: value for name in _MODEL_OPTIONS if (value := getattr(self._options, name)) is not None}
        told = {name: given[name] for name in _MODEL_OPTIONS if name in given}
        if policy is None and (refused := sorted({*chain, *told})):
            raise ConfigurationError(
                f"{' and '.join(refused)} would be ignored: only a ChatQwen3 takes them, and the model is "
                f"{self._llm.get_name()}"
            )
        asked = {**chain, **configured(config, {}), **bound, **told}
        if policy is not None and "thinking" in asked:
            policy = policy.overruled(asked["thinking"])
        rest = {name: value for name, value in given.items() if name not in told}
        check_taken(self._retriever, rest)
        return Call(config or {}, policy, asked.get("budget"), rest)


@dataclass(frozen=True, slots=True)
class Call:
    """What the parts of one call are told.

    Attributes:
        config: LangChain's, for the chain's children.
        policy: How to think; `None` for a model that can't be told.
        budget: The session's budget; `None` leaves it to the model.
        for_retriever: Keywords of the retriever.
    """

    config: RunnableConfig
    policy: ThinkingPolicy | None
    budget: ThinkingBudget | None
    for_retriever: Mapping[str, Any]

    def named(self, run_name: str) -> RunnableConfig:
        """The config of a child run."""
        return patch_config(self.config, run_name=run_name)

    def for_planning(self) -> dict[str, Any]:
        """Keywords of a call that plans, such as rewriting the question: it never thinks."""
        if self.policy is None:
            return {}
        return {"thinking": False} if self.budget is None else {"thinking": False, "budget": self.budget}

    def for_answering(self, turn: AnswerTurn) -> dict[str, Any]:
        """Keywords of the call that answers."""
        return {} if self.policy is None else turn.thinking_options(self.policy, self.budget)
