"""`create_rag_chain`: question in, answer with citations out, as a LangChain Runnable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Unpack, cast

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config
from typing_extensions import override

from qwen3_rag.answering import Answer, AnswerOptions, AnswerTurn, Piece, RagOptions, last_answer
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chain_parts import (
    Question,
    RagInput,
    own_policy,
    read_documents,
    read_piece,
    read_question,
    read_told,
)
from qwen3_rag.langchain._chat_options import configured
from qwen3_rag.thinking import ThinkingBudget, ThinkingPolicy

__all__ = ["Question", "RagChain", "RagInput", "create_rag_chain"]

RUN_NAME: Final = "RagChain"
CONDENSE, RETRIEVE, ANSWER = "condense_question", "retrieve", "answer"
"""Names of the chain's runs in traces."""

_MODEL_OPTIONS: Final = ("thinking", "budget")


def create_rag_chain(
    retriever: Runnable[str, list[Document]], llm: Runnable[Any, Any], **options: Unpack[RagOptions]
) -> RagChain:
    """Builds a chain that answers from what a retriever finds, and cites it.

    The passages are packed into the prompt best first, within `context_tokens`, as numbered quotations that can't act as
    instructions; citations are checked against them. With a conversation the question is first rewritten so that it stands
    alone, without thinking. Where nothing relevant is found the answer says so, and no model is asked.

    Example:
        ```python
        from qwen3_rag.langchain import ChatQwen3, Qwen3Retriever, create_rag_chain

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        chain = create_rag_chain(retriever, ChatQwen3("qwen-plus", thinking="auto"), score_threshold=0.3)
        answer = chain.invoke("How is data stored in milvus?")
        for citation in answer.citations:
            print(citation.number, citation.source, citation.passage.relevance_score)
        again = chain.invoke({"question": "And where?", "chat_history": [("user", answer.question), ("ai", answer.text)]})
        for piece in chain.stream("How is data stored in milvus?"):
            ...  # ReasoningPiece, then TextPiece, then the Answer
        ```

    Args:
        retriever: A `Qwen3Retriever`, or any other LangChain retriever.
        llm: A `ChatQwen3`, or any other LangChain chat model, with what is bound to it.
        **options: `score_threshold`: lowest P(yes) of a passage that is used. `context_tokens` (8192): most tokens of the
            passages in the prompt. `history_tokens` (4096): most tokens of the conversation that is read. `tokenizer`:
            what counts them; an estimate from above without. `instructions`: rules of your application, put after ours.
            `not_found`: the answer where nothing relevant was found, or a function of the question. `thinking` and
            `budget`: as for `ChatQwen3`, whose own they overrule; other models don't take them.

    Returns:
        A Runnable. `invoke(question, config, thinking=…, budget=…, **more)` overrules the two for a call; `more` goes to
        the retriever, which acts on it or raises (`k`, `mode`, `filter`, … of a `Qwen3Retriever`).

    Raises:
        ConfigurationError: If an option is unknown, can't work, or would be ignored by the model.
    """
    return RagChain(retriever, llm, AnswerOptions.of(**options))


class RagChain(Runnable[Question, Answer]):
    """What `create_rag_chain` returns: an ordinary Runnable whose stream gives the answer's pieces, then the answer.

    Args:
        retriever: What finds passages.
        llm: What answers.
        options: The settings.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    def __init__(
        self, retriever: Runnable[str, list[Document]], llm: Runnable[Any, Any], options: AnswerOptions
    ) -> None:
        for name, given, kind in (("retriever", retriever, "retriever"), ("llm", llm, "chat model")):
            if not isinstance(given, Runnable):
                raise ConfigurationError(f"{name} must be a LangChain {kind}, got {type(given).__name__}")
        self.name = RUN_NAME
        self._retriever = retriever
        self._llm = llm
        self._options = options
        self._call({}, None)  # checks what the model takes

    @property
    @override
    def InputType(self) -> Any:
        """A question, or a mapping with `question` and `chat_history`."""
        return Question

    @property
    @override
    def OutputType(self) -> type[Answer]:
        """`Answer`."""
        return Answer

    @override
    def invoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        function: Any = self._invoke  # LangChain also calls what takes the config without the run manager
        return self._call_with_config(function, input, config, **kwargs)

    @override
    async def ainvoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        function: Any = self._ainvoke
        return await self._acall_with_config(function, input, config, **kwargs)

    # A Runnable's stream gives its output type; this one gives what leads to it first. What comes behind the chain in a
    # sequence gets the last one, the answer, as the pieces do not add up.

    @override
    def stream(  # type: ignore[override]
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Piece]:
        function: Any = self._stream
        yield from cast(
            "Iterator[Piece]", self._transform_stream_with_config(iter([input]), function, config, **kwargs)
        )

    @override
    async def astream(  # type: ignore[override]
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Piece]:
        async def inputs() -> AsyncIterator[Question]:
            yield input

        function: Any = self._astream
        pieces = self._atransform_stream_with_config(inputs(), function, config, **kwargs)
        async with aclosing(cast("AsyncGenerator[Piece, None]", pieces)) as stream:
            async for piece in stream:
                yield piece

    def _invoke(self, given: Question, config: RunnableConfig, **kwargs: Any) -> Answer:
        return last_answer(self._pieces(given, config, kwargs, stream=False))

    async def _ainvoke(self, given: Question, config: RunnableConfig, **kwargs: Any) -> Answer:
        return last_answer([piece async for piece in self._apieces(given, config, kwargs, stream=False)])

    def _stream(self, inputs: Iterator[Question], config: RunnableConfig, **kwargs: Any) -> Iterator[Piece]:
        yield from self._pieces(next(inputs), config, kwargs, stream=True)

    async def _astream(
        self, inputs: AsyncIterator[Question], config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Piece]:
        async with aclosing(self._apieces(await anext(inputs), config, kwargs, stream=True)) as pieces:
            async for piece in pieces:
                yield piece

    # Sync and async differ in nothing but the sending.

    def _pieces(
        self, given: Question, config: RunnableConfig, kwargs: Mapping[str, Any], *, stream: bool
    ) -> Iterator[Piece]:
        call, turn = self._call(kwargs, config), AnswerTurn(self._options, *read_question(given))
        if messages := turn.condensing():
            with turn.stage("condense"):
                message = self._llm.invoke([*messages], call.named(CONDENSE), **call.for_condensing())
                turn.condensed(read_piece(message)[1], read_told([message]))
        with turn.stage("retrieve"):
            documents = self._retriever.invoke(turn.query, call.named(RETRIEVE), **call.for_retriever)
        turn.retrieved(read_documents(documents))
        read: list[AIMessage] = []
        if turn.found:
            with turn.stage("generate"):
                for message in self._ask(turn, call, stream=stream):
                    yield from turn.read(*read_piece(message))
                    read.append(message)
        yield from turn.end(read_told(read) if turn.found else None)

    async def _apieces(
        self, given: Question, config: RunnableConfig, kwargs: Mapping[str, Any], *, stream: bool
    ) -> AsyncGenerator[Piece, None]:
        call, turn = self._call(kwargs, config), AnswerTurn(self._options, *read_question(given))
        if messages := turn.condensing():
            with turn.stage("condense"):
                message = await self._llm.ainvoke([*messages], call.named(CONDENSE), **call.for_condensing())
                turn.condensed(read_piece(message)[1], read_told([message]))
        with turn.stage("retrieve"):
            documents = await self._retriever.ainvoke(turn.query, call.named(RETRIEVE), **call.for_retriever)
        turn.retrieved(read_documents(documents))
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

    def _ask(self, turn: AnswerTurn, call: _Call, *, stream: bool) -> Iterator[AIMessage]:
        prompt, config, options = [*turn.messages()], call.named(ANSWER), call.for_answering(turn)
        if stream:
            yield from self._llm.stream(prompt, config, **options)
        else:
            yield self._llm.invoke(prompt, config, **options)

    async def _aask(self, turn: AnswerTurn, call: _Call, *, stream: bool) -> AsyncGenerator[AIMessage, None]:
        prompt, config, options = [*turn.messages()], call.named(ANSWER), call.for_answering(turn)
        if stream:
            chunks = cast("AsyncGenerator[AIMessage, None]", self._llm.astream(prompt, config, **options))
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        else:
            yield await self._llm.ainvoke(prompt, config, **options)

    def _call(self, given: Mapping[str, Any], config: RunnableConfig | None) -> _Call:
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
        return _Call(config or {}, policy, asked.get("budget"), rest)


@dataclass(frozen=True, slots=True)
class _Call:
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

    def for_condensing(self) -> dict[str, Any]:
        """Keywords of the call that rewrites the question."""
        if self.policy is None:
            return {}
        return {"thinking": False} if self.budget is None else {"thinking": False, "budget": self.budget}

    def for_answering(self, turn: AnswerTurn) -> dict[str, Any]:
        """Keywords of the call that answers."""
        return {} if self.policy is None else turn.thinking_options(self.policy, self.budget)
