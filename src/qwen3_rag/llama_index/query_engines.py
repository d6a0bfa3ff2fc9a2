"""`create_query_engine`: question in, answer with citations out, as a LlamaIndex query engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

import llama_index.core.instrumentation as instrument
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.llms import LLM
from llama_index.core.schema import NodeWithScore, QueryBundle

from qwen3_rag.answering import AnswerOptions, AnswerTurn, Piece, RagOptions, TextPiece, last_answer
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index._engine_parts import check_model, read_history, read_nodes
from qwen3_rag.llama_index._engine_sending import aanswer, acondense, answer, condense
from qwen3_rag.llama_index._tracing import Streaming

if TYPE_CHECKING:
    from qwen3_rag.llama_index.chat_engines import RagChatEngine

ANSWER = "answer"
"""Key of the `Answer` in a response's metadata; in a streamed response it is there once the stream has ended."""

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


def create_query_engine(
    retriever: BaseRetriever,
    llm: LLM,
    *,
    streaming: bool = False,
    callback_manager: CallbackManager | None = None,
    **options: Unpack[RagOptions],
) -> RagQueryEngine:
    """Builds a query engine that answers from what a retriever finds, and cites it.

    The passages are packed into the prompt best first, within `context_tokens`, as numbered quotations that can't act as
    instructions; citations are checked against them. Where nothing relevant is found the answer says so, and no model is
    asked.

    Example:
        ```python
        from qwen3_rag.llama_index import Qwen3LLM, Qwen3Retriever, create_query_engine

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        engine = create_query_engine(retriever, Qwen3LLM("qwen-plus", thinking="auto"), score_threshold=0.3)
        response = engine.query("How is data stored in milvus?")
        for citation in response.metadata["answer"].citations:
            print(citation.number, citation.source, response.source_nodes[citation.number - 1].score)
        for piece in engine.stream("How is data stored in milvus?"):
            ...  # ReasoningPiece, then TextPiece, then the Answer
        chat = engine.as_chat_engine()
        ```

    Args:
        retriever: A `Qwen3Retriever`, or any other LlamaIndex retriever.
        llm: A `Qwen3LLM`, or any other LlamaIndex model.
        streaming: Whether `query` and `aquery` return a response that streams the text.
        callback_manager: LlamaIndex callbacks; by default the retriever's.
        **options: `score_threshold`: lowest P(yes) of a passage that is used. `context_tokens` (8192): most tokens of the
            passages in the prompt. `history_tokens` (4096): most tokens of the conversation that is read. `tokenizer`:
            what counts them; an estimate from above without. `instructions`: rules of your application, put after ours.
            `not_found`: the answer where nothing relevant was found, or a function of the question. `thinking` and
            `budget`: as for `Qwen3LLM`, whose own they overrule; other models don't take them.

    Returns:
        A query engine. Its responses have the text, in `source_nodes` the passages that the model was given, so that `[n]`
        is `source_nodes[n - 1]`, and in `metadata["answer"]` the `Answer` with all the rest.

    Raises:
        ConfigurationError: If an option is unknown, can't work, or would be ignored by the model.
    """
    return RagQueryEngine(retriever, llm, options, streaming=streaming, callback_manager=callback_manager)


class RagQueryEngine(BaseQueryEngine):
    """What `create_query_engine` returns.

    Args:
        retriever: What finds passages.
        llm: What answers.
        options: The settings, as `create_query_engine` takes them.
        streaming: Whether `query` and `aquery` return a response that streams the text.
        callback_manager: LlamaIndex callbacks; by default the retriever's.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        llm: LLM,
        options: RagOptions,
        *,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if not isinstance(retriever, BaseRetriever):
            raise ConfigurationError(f"retriever must be a LlamaIndex retriever, got {type(retriever).__name__}")
        super().__init__(callback_manager or retriever.callback_manager)
        self._given = options
        self._options = AnswerOptions.of(**options)
        check_model(llm, self._options)
        self._retriever = retriever
        self._llm = llm
        self._streaming = streaming

    @property
    def llm(self) -> LLM:
        """What answers."""
        return self._llm

    def with_options(self, *, streaming: bool | None = None, **options: Unpack[RagOptions]) -> Self:
        """Returns a copy with other settings over the same retriever and model; what is not named stays.

        LlamaIndex's `query` takes nothing but the question, so this is how one call gets its own settings.
        """
        chosen = self._streaming if streaming is None else streaming
        return self._copy({**self._given, **options}, streaming=chosen)

    def as_chat_engine(self, **options: Any) -> RagChatEngine:
        """Returns LlamaIndex's `CondenseQuestionChatEngine` over this engine, which remembers the conversation.

        Args:
            **options: `chat_history`, `memory`, `memory_cls`, as for its `from_defaults`.
        """
        from qwen3_rag.llama_index.chat_engines import RagChatEngine

        return RagChatEngine.over(self, **options)

    # What streams all of an answer.

    def stream(self, question: str, chat_history: Sequence[ChatMessage] = ()) -> Iterator[Piece]:
        """Answers a question, piece by piece.

        Args:
            question: The question.
            chat_history: The conversation before it, with which it is rewritten so that it stands alone.

        Yields:
            `ReasoningPiece`s and `TextPiece`s as they come, then the `Answer`.
        """
        told = Streaming(self.stream, question, ANSWER)
        yield from told.traced(self._pieces(told, chat_history))

    async def astream(self, question: str, chat_history: Sequence[ChatMessage] = ()) -> AsyncGenerator[Piece, None]:
        """Async twin of `stream`."""
        told = Streaming(self.astream, question, ANSWER)
        async with aclosing(told.atraced(self._apieces(told, chat_history))) as pieces:
            async for piece in pieces:
                yield piece

    def condense(self, question: str, chat_history: Sequence[ChatMessage]) -> str:
        """Rewrites a follow-up question so that it stands alone, without thinking; without a conversation it stays."""
        turn = AnswerTurn(self._options, question, read_history(chat_history))
        condense(self._llm, self._options, turn)
        return turn.query

    async def acondense(self, question: str, chat_history: Sequence[ChatMessage]) -> str:
        """Async twin of `condense`."""
        turn = AnswerTurn(self._options, question, read_history(chat_history))
        await acondense(self._llm, self._options, turn)
        return turn.query

    # What LlamaIndex calls.

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Returns what is found for a question."""
        return self._retriever.retrieve(query_bundle)

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Async twin of `retrieve`."""
        return await self._retriever.aretrieve(query_bundle)

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Answers from nodes that were retrieved already."""
        turn = AnswerTurn(self._options, query_bundle.query_str)
        turn.retrieved(read_nodes(nodes))
        return self._respond(turn, [nodes[i] for i in turn.given] + [*(additional_source_nodes or ())])

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Async twin of `synthesize`."""
        turn = AnswerTurn(self._options, query_bundle.query_str)
        turn.retrieved(read_nodes(nodes))
        return await self._arespond(turn, [nodes[i] for i in turn.given] + [*(additional_source_nodes or ())])

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            turn = self._turn(query_bundle.query_str)
            response = self._respond(turn, self._retrieve(turn, query_bundle))
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            turn = self._turn(query_bundle.query_str)
            response = await self._arespond(turn, await self._aretrieve(turn, query_bundle))
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    def _copy(self, given: Any, *, streaming: bool) -> Self:
        return type(self)(
            self._retriever, self._llm, given, streaming=streaming, callback_manager=self.callback_manager
        )

    def _turn(self, question: str, chat_history: Sequence[ChatMessage] = ()) -> AnswerTurn:
        return AnswerTurn(self._options, question, read_history(chat_history))

    # Sync and async differ in nothing but the sending.

    def _pieces(self, told: Streaming, history: Sequence[ChatMessage]) -> Generator[Piece, None, None]:
        turn = self._turn(told.question, history)
        condense(self._llm, self._options, turn)
        nodes = self._retrieve(turn, QueryBundle(turn.query))
        yield from told.synthesized(nodes, answer(self._llm, self._options, turn, stream=True))

    async def _apieces(self, told: Streaming, history: Sequence[ChatMessage]) -> AsyncGenerator[Piece, None]:
        turn = self._turn(told.question, history)
        await acondense(self._llm, self._options, turn)
        nodes = await self._aretrieve(turn, QueryBundle(turn.query))
        answered = told.asynthesized(nodes, aanswer(self._llm, self._options, turn, stream=True))
        async with aclosing(answered):
            async for piece in answered:
                yield piece

    def _retrieve(self, turn: AnswerTurn, bundle: QueryBundle) -> list[NodeWithScore]:
        """Returns the nodes that the model is given, by their number."""
        with turn.stage("retrieve"):
            nodes = self.retrieve(bundle)
        turn.retrieved(read_nodes(nodes))
        return [nodes[i] for i in turn.given]

    async def _aretrieve(self, turn: AnswerTurn, bundle: QueryBundle) -> list[NodeWithScore]:
        with turn.stage("retrieve"):
            nodes = await self.aretrieve(bundle)
        turn.retrieved(read_nodes(nodes))
        return [nodes[i] for i in turn.given]

    @dispatcher.span
    def _respond(self, turn: AnswerTurn, nodes: list[NodeWithScore]) -> RESPONSE_TYPE:
        dispatcher.event(SynthesizeStartEvent(query=turn.query))
        metadata: dict[str, Any] = {}
        response: RESPONSE_TYPE
        if self._streaming:
            response = StreamingResponse(self._texts(turn, metadata), nodes, metadata)
        else:
            whole = metadata[ANSWER] = last_answer(answer(self._llm, self._options, turn, stream=False))
            response = Response(whole.text, nodes, metadata)
        dispatcher.event(SynthesizeEndEvent(query=turn.query, response=response))
        return response

    @dispatcher.span
    async def _arespond(self, turn: AnswerTurn, nodes: list[NodeWithScore]) -> RESPONSE_TYPE:
        dispatcher.event(SynthesizeStartEvent(query=turn.query))
        metadata: dict[str, Any] = {}
        response: RESPONSE_TYPE
        if self._streaming:
            response = AsyncStreamingResponse(self._atexts(turn, metadata), nodes, metadata)
        else:
            pieces = [piece async for piece in aanswer(self._llm, self._options, turn, stream=False)]
            whole = metadata[ANSWER] = last_answer(pieces)
            response = Response(whole.text, nodes, metadata)
        dispatcher.event(SynthesizeEndEvent(query=turn.query, response=response))
        return response

    def _texts(self, turn: AnswerTurn, metadata: dict[str, Any]) -> Any:
        for piece in answer(self._llm, self._options, turn, stream=True):
            if isinstance(piece, TextPiece):
                yield piece.text
        metadata[ANSWER] = piece

    async def _atexts(self, turn: AnswerTurn, metadata: dict[str, Any]) -> AsyncGenerator[str, None]:
        async with aclosing(aanswer(self._llm, self._options, turn, stream=True)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextPiece):
                    yield piece.text
        metadata[ANSWER] = piece
