"""`create_deep_search_engine`: sub-questions, searched for until the question is answered, as a LlamaIndex query engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Self, Unpack, cast

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.schema import NodeWithScore, QueryBundle
from typing_extensions import override

from qwen3_rag.answering import AnswerTurn, RagOptions, SourcePassage
from qwen3_rag.deep_search import (
    Ask,
    DeepOptions,
    DeepPiece,
    DeepSearchOptions,
    DeepTurn,
    Rerank,
    Search,
    SearchPiece,
    asearch,
    search,
)
from qwen3_rag.llama_index._engine_parts import read_history, read_nodes
from qwen3_rag.llama_index._engine_sending import aanswer, acondense, answer, condense
from qwen3_rag.llama_index._planning import aplan, plan
from qwen3_rag.llama_index._tracing import Streaming
from qwen3_rag.llama_index.postprocessors import Qwen3Rerank
from qwen3_rag.llama_index.query_engines import RagQueryEngine
from qwen3_rag.llama_index.retrievers import Qwen3Retriever


def create_deep_search_engine(
    retriever: BaseRetriever,
    llm: LLM,
    *,
    reranker: Any = None,
    streaming: bool = False,
    callback_manager: CallbackManager | None = None,
    **options: Unpack[DeepSearchOptions],
) -> DeepSearchEngine:
    """Builds a query engine that breaks a question down, searches for each part, looks for gaps, searches again, and answers.

    Each round searches for its sub-questions at the same time, without reranking, and reranks what is new once, against
    the question itself. Then the model judges whether the best of it is enough, and what to search for next. Planning calls
    use structured output and never think. Whichever limit is hit, the answer is made from what had been found by then, and
    its `trace` says how it came about.

    Example:
        ```python
        from qwen3_rag.llama_index import Qwen3LLM, Qwen3Retriever, create_deep_search_engine

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10)
        engine = create_deep_search_engine(retriever, Qwen3LLM("qwen-plus"), max_rounds=3, deadline=60, thinking="auto")
        response = engine.query("How do Milvus and Milvus Lite differ in where they keep their data?")
        for one in response.metadata["answer"].trace.sub_questions:
            print(one.text, one.passages, one.new)
        for piece in engine.stream("How do they differ?"):
            ...  # SearchPiece for each round, ReasoningPiece, TextPiece, then the DeepAnswer
        ```

    Args:
        retriever: A `Qwen3Retriever`, whose reranker is used, or any other LlamaIndex retriever, which is asked as
            it is.
        llm: A `Qwen3LLM`, or any other LlamaIndex model.
        reranker: A `Qwen3Rerank`, or whatever its first argument can be, instead of the retriever's own. Without any, nodes
            are ordered by their ranks.
        streaming: Whether `query` and `aquery` return, after the search, a response that streams the text.
        callback_manager: LlamaIndex callbacks; by default the retriever's.
        **options: `max_rounds` (3), `max_calls`, `deadline` (seconds), `max_tokens`, `max_sub_questions` (4, of one round)
            and `top_n` (10, nodes to answer from), as `qwen3_rag.deep_search.Limits` describes them; and those of
            `create_query_engine`, such as `score_threshold`, `context_tokens`, `thinking` and `budget`.

    Returns:
        A query engine whose responses are those of `create_query_engine`, with a `DeepAnswer` in `metadata["answer"]`.

    Raises:
        ConfigurationError: If an option is unknown, can't work, or would be ignored by the model.
    """
    given = {"reranker": reranker, "streaming": streaming, "callback_manager": callback_manager}
    return DeepSearchEngine(retriever, llm, options, **given)


class DeepSearchEngine(RagQueryEngine):
    """What `create_deep_search_engine` returns.

    Args:
        retriever: What finds passages.
        llm: What plans and answers.
        options: The settings, as `create_deep_search_engine` takes them.
        reranker: Instead of the retriever's own.
        streaming: Whether `query` and `aquery` return a response that streams the text.
        callback_manager: LlamaIndex callbacks; by default the retriever's.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    def __init__(
        self,
        retriever: BaseRetriever,
        llm: LLM,
        options: DeepSearchOptions,
        *,
        reranker: Any = None,
        streaming: bool = False,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        self._deep = DeepOptions.of(**options)
        of_answer: Any = {name: value for name, value in options.items() if name in RagOptions.__annotations__}
        super().__init__(retriever, llm, of_answer, streaming=streaming, callback_manager=callback_manager)
        self._given = options
        self._given_reranker = reranker if isinstance(reranker, Qwen3Rerank | None) else Qwen3Rerank(reranker)
        own = retriever.stages() if isinstance(retriever, Qwen3Retriever) else (retriever, None)
        self._finder: BaseRetriever = own[0]
        chosen = own[1] if self._given_reranker is None else self._given_reranker
        self._reranker = None if chosen is None else chosen.with_options(top_n=None)

    @override
    def with_options(self, *, streaming: bool | None = None, **options: Unpack[DeepSearchOptions]) -> Self:
        """Returns a copy with other settings over the same retriever and models; what is not named stays."""
        chosen = self._streaming if streaming is None else streaming
        return self._copy({**self._given, **options}, streaming=chosen)

    @override
    def stream(  # type: ignore[override]  # there is more to show than of a plain answer
        self, question: str, chat_history: Sequence[ChatMessage] = ()
    ) -> Iterator[DeepPiece]:
        """Answers a question, piece by piece.

        Args:
            question: The question.
            chat_history: The conversation before it, with which it is rewritten so that it stands alone.

        Yields:
            A `SearchPiece` for each round, `ReasoningPiece`s and `TextPiece`s as they come, then the `DeepAnswer`.
        """
        yield from super().stream(question, chat_history)

    @override
    async def astream(  # type: ignore[override]
        self, question: str, chat_history: Sequence[ChatMessage] = ()
    ) -> AsyncGenerator[DeepPiece, None]:
        """Async twin of `stream`."""
        async with aclosing(super().astream(question, chat_history)) as pieces:
            async for piece in pieces:
                yield piece

    @override
    def _copy(self, given: Any, *, streaming: bool) -> Self:
        settings: dict[str, Any] = {"streaming": streaming, "callback_manager": self.callback_manager}
        return type(self)(self._retriever, self._llm, given, reranker=self._given_reranker, **settings)

    @override
    def _turn(self, question: str, chat_history: Sequence[ChatMessage] = ()) -> DeepTurn[NodeWithScore]:
        reranks = self._reranker is not None
        return DeepTurn(self._deep, _passage, question, read_history(chat_history), reranks=reranks)

    @override
    def _retrieve(self, turn: AnswerTurn, bundle: QueryBundle) -> list[NodeWithScore]:
        deep = cast("DeepTurn[NodeWithScore]", turn)
        for _ in self._search(deep, bundle):
            pass
        return [deep.items[i] for i in deep.given]

    @override
    async def _aretrieve(self, turn: AnswerTurn, bundle: QueryBundle) -> list[NodeWithScore]:
        deep = cast("DeepTurn[NodeWithScore]", turn)
        async for _ in self._asearch(deep, bundle):
            pass
        return [deep.items[i] for i in deep.given]

    @override
    def _pieces(self, told: Streaming, history: Sequence[ChatMessage]) -> Generator[Any, None, None]:
        turn = self._turn(told.question, history)
        condense(self._llm, self._options, turn)
        yield from self._search(turn, QueryBundle(turn.query))
        nodes = [turn.items[i] for i in turn.given]
        yield from told.synthesized(nodes, answer(self._llm, self._options, turn, stream=True))

    @override
    async def _apieces(self, told: Streaming, history: Sequence[ChatMessage]) -> AsyncGenerator[Any, None]:
        turn = self._turn(told.question, history)
        await acondense(self._llm, self._options, turn)
        async with aclosing(self._asearch(turn, QueryBundle(turn.query))) as searches:
            async for one in searches:
                yield one
        nodes = [turn.items[i] for i in turn.given]
        answered = told.asynthesized(nodes, aanswer(self._llm, self._options, turn, stream=True))
        async with aclosing(answered):
            async for piece in answered:
                yield piece

    # Sync and async differ in nothing but the sending.

    def _search(self, turn: DeepTurn[NodeWithScore], bundle: QueryBundle) -> Iterator[SearchPiece]:
        for step in turn.steps():
            match step:
                case Ask():
                    step.said = plan(self._llm, self._options, step)
                case Search():
                    yield SearchPiece(step.round, step.questions)
                    search(step, lambda question: self._finder.retrieve(_bundle(question, bundle)))
                case Rerank() if self._reranker is not None:
                    step.ranked = self._reranker.postprocess_nodes(step.items, QueryBundle(step.question))

    async def _asearch(self, turn: DeepTurn[NodeWithScore], bundle: QueryBundle) -> AsyncGenerator[SearchPiece, None]:
        for step in turn.steps():
            match step:
                case Ask():
                    step.said = await aplan(self._llm, self._options, step)
                case Search():
                    yield SearchPiece(step.round, step.questions)
                    await asearch(step, lambda question: self._finder.aretrieve(_bundle(question, bundle)))
                case Rerank() if self._reranker is not None:
                    step.ranked = await self._reranker.apostprocess_nodes(step.items, QueryBundle(step.question))


def _bundle(question: str, given: QueryBundle) -> QueryBundle:
    """The user's own bundle, perhaps with an embedding, for the question itself."""
    return given if question == given.query_str else QueryBundle(question)


def _passage(node: NodeWithScore) -> SourcePassage:
    (passage,) = read_nodes([node])
    return passage
