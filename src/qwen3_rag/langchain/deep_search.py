"""`create_deep_search`: sub-questions, searched for until the question is answered, as a LangChain Runnable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Unpack

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from typing_extensions import override

from qwen3_rag.answering import SourcePassage
from qwen3_rag.deep_search import (
    Ask,
    DeepAnswer,
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
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chain_base import RETRIEVE, AnsweringChain, Call
from qwen3_rag.langchain._chain_parts import Question, read_documents, read_question
from qwen3_rag.langchain._planning import aplan, plan
from qwen3_rag.langchain.rerankers import Qwen3Reranker
from qwen3_rag.langchain.retrievers import Qwen3Retriever

_SELECTION: Final = ("top_n", "score_threshold")


def create_deep_search(
    retriever: Runnable[str, list[Document]],
    llm: Runnable[Any, Any],
    *,
    reranker: Any = None,
    **options: Unpack[DeepSearchOptions],
) -> DeepSearch:
    """Builds a chain that breaks a question down, searches for each part, looks for gaps, searches again, and answers.

    Each round searches for its sub-questions at the same time, without reranking, and reranks what is new once, against
    the question itself. Then the model judges whether the best of it is enough, and what to search for next. Planning calls
    use structured output and never think. Whichever limit is hit, the answer is made from what had been found by then, and
    `answer.trace` says how it came about.

    Example:
        ```python
        from qwen3_rag.langchain import ChatQwen3, Qwen3Retriever, create_deep_search

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10)
        search = create_deep_search(retriever, ChatQwen3("qwen-plus"), max_rounds=3, deadline=60, thinking="auto")
        answer = search.invoke("How do Milvus and Milvus Lite differ in where they keep their data?")
        for one in answer.trace.sub_questions:
            print(one.text, one.passages, one.new)
        for piece in search.stream("How do they differ?"):
            ...  # SearchPiece for each round, ReasoningPiece, TextPiece, then the DeepAnswer
        ```

    Args:
        retriever: A `Qwen3Retriever`, whose reranker is used, or any other LangChain retriever, which is asked as
            it is, a wrapped one too.
        llm: A `ChatQwen3`, or any other LangChain chat model, with what is bound to it.
        reranker: A `Qwen3Reranker`, or whatever its first argument can be, instead of the retriever's own. Without any,
            passages are ordered by their ranks.
        **options: `max_rounds` (3), `max_calls`, `deadline` (seconds), `max_tokens`, `max_sub_questions` (4, of one round)
            and `top_n` (10, passages to answer from), as `qwen3_rag.deep_search.Limits` describes them; and those of
            `create_rag_chain`, such as `score_threshold`, `context_tokens`, `thinking` and `budget`.

    Returns:
        A Runnable. `invoke(question, config, thinking=…, budget=…, **more)` overrules the two for a call; `more` goes to
        the retriever (`k`, `mode`, `filter`, `instruction`, … of a `Qwen3Retriever`).

    Raises:
        ConfigurationError: If an option is unknown, can't work, or would be ignored by the model.
    """
    return DeepSearch(retriever, llm, DeepOptions.of(**options), reranker=reranker)


class DeepSearch(AnsweringChain[DeepAnswer, DeepPiece]):
    """What `create_deep_search` returns: an ordinary Runnable whose stream gives the searches, the answer's pieces, the answer.

    Args:
        retriever: What finds passages.
        llm: What plans and answers.
        options: The settings.
        reranker: Instead of the retriever's own.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    def __init__(
        self,
        retriever: Runnable[str, list[Document]],
        llm: Runnable[Any, Any],
        options: DeepOptions,
        *,
        reranker: Any = None,
    ) -> None:
        super().__init__(retriever, llm, options.answer)
        self._deep = options
        self._reranker = reranker if isinstance(reranker, Qwen3Reranker | None) else Qwen3Reranker(reranker)

    @property
    @override
    def OutputType(self) -> type[DeepAnswer]:
        """`DeepAnswer`."""
        return DeepAnswer

    @override
    def _pieces(self, given: Question, call: Call, *, stream: bool) -> Iterator[DeepPiece]:
        stages, turn = self._begin(given, call)
        self._condense(turn, call)
        for step in turn.steps():
            match step:
                case Ask():
                    step.said = plan(self._llm, step, call.named(step.stage), call.for_planning())
                case Search():
                    yield SearchPiece(step.round, step.questions)
                    search(step, stages.find)
                case Rerank():
                    step.ranked = stages.rerank(step)
        yield from self._answer(turn, call, stream=stream)

    @override
    async def _apieces(self, given: Question, call: Call, *, stream: bool) -> AsyncGenerator[DeepPiece, None]:
        stages, turn = self._begin(given, call)
        await self._acondense(turn, call)
        for step in turn.steps():
            match step:
                case Ask():
                    step.said = await aplan(self._llm, step, call.named(step.stage), call.for_planning())
                case Search():
                    yield SearchPiece(step.round, step.questions)
                    await asearch(step, stages.afind)
                case Rerank():
                    step.ranked = await stages.arerank(step)
        async with aclosing(self._aanswer(turn, call, stream=stream)) as pieces:
            async for piece in pieces:
                yield piece

    def _begin(self, given: Question, call: Call) -> tuple[_Stages, DeepTurn[Document]]:
        stages = self._stages(call)
        question, history = read_question(given)
        reranks = stages.reranker is not None
        return stages, DeepTurn(self._deep, _passage, question, history, reranks=reranks)

    def _stages(self, call: Call) -> _Stages:
        given, retriever = call.for_retriever, self._retriever
        if not isinstance(retriever, Qwen3Retriever):
            return _Stages(call, retriever, given, self._reranker)
        if refused := [name for name in _SELECTION if name in given]:
            raise ConfigurationError(
                f"{' and '.join(refused)} can't be given per call: candidates of all sub-questions are reranked together, so "
                "say it to create_deep_search"
            )
        candidates, own = retriever.stages(**given)
        return _Stages(call, candidates, {}, own if self._reranker is None else self._reranker)


@dataclass(frozen=True, slots=True)
class _Stages:
    """Retrieval and reranking of one call.

    Attributes:
        call: What the call is told.
        finder: What finds candidates.
        options: Its keywords.
        reranker: What scores them.
    """

    call: Call
    finder: Runnable[str, list[Document]]
    options: Mapping[str, Any]
    reranker: Qwen3Reranker | None

    def find(self, question: str) -> list[Document]:
        return self.finder.invoke(question, self.call.named(RETRIEVE), **self.options)

    async def afind(self, question: str) -> list[Document]:
        return await self.finder.ainvoke(question, self.call.named(RETRIEVE), **self.options)

    def rerank(self, step: Rerank[Document]) -> Sequence[Document]:
        if self.reranker is None:
            return step.items
        whole = self.reranker.with_options(top_n=None)
        return whole.compress_documents(step.items, step.question, self.call.config.get("callbacks"))

    async def arerank(self, step: Rerank[Document]) -> Sequence[Document]:
        if self.reranker is None:
            return step.items
        whole = self.reranker.with_options(top_n=None)
        return await whole.acompress_documents(step.items, step.question, self.call.config.get("callbacks"))


def _passage(document: Document) -> SourcePassage:
    (passage,) = read_documents([document])
    return passage
