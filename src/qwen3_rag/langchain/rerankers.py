"""Qwen3-Reranker as a LangChain document compressor and as a cross encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypedDict, Unpack

from langchain_core.callbacks import Callbacks
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from qwen3_rag.backends import load_reranker
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._adapter import ModelAdapter
from qwen3_rag.models import DEFAULT_RERANKER_MODEL
from qwen3_rag.prompts import check_instruction
from qwen3_rag.retrieval import Ranked, arerank_items, check_selection, rerank_items
from qwen3_rag.types import Reranker, RerankResult

RUN_NAME = "Qwen3Rerank"
"""Name of the reranking step in traces."""


class RerankOptions(TypedDict, total=False):
    """What can differ from one call to the next."""

    instruction: str | None
    top_n: int | None
    score_threshold: float | None


class _RerankerAdapter(ModelAdapter):
    """An adapter whose core object is a `Reranker`."""

    def __init__(self, model: Any = DEFAULT_RERANKER_MODEL, *, instruction: str | None = None, **values: Any) -> None:
        super().__init__(model, instruction=instruction, **values)

    @property
    def reranker(self) -> Reranker:
        """What scores: share it with other adapters, or call its own `warm_up()` and `close()`."""
        core: Reranker = self._core
        return core

    def _load(self, **secrets: Any) -> Reranker:
        return load_reranker(self.model, **self._options, **secrets)


class Qwen3Reranker(_RerankerAdapter, BaseDocumentCompressor):
    """Scores documents against a query with Qwen3-Reranker and keeps the best.

    What comes back are copies whose metadata gain `relevance_score` (P(yes), a float) and `retrieval_rank` (the
    position before, from 1). In traces the work is a run of its own, named `Qwen3Rerank`.

    Args:
        model: `"tiny"` (bundled, offline), a hub name, a folder, or any `qwen3_rag.types.Reranker`. Nothing is loaded
            before the first documents are scored.
        instruction: What counts as relevant; `None` takes the model's own, which is the official web-search one.
        top_n: How many documents to keep at most; `None` keeps all.
        score_threshold: Lowest P(yes) to keep; `None` keeps all.
        **options: Passed to `qwen3_rag.inference.LocalReranker`: `device`, `dtype`, `max_length`, `cache_folder`, …

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
        MissingDependencyError: If the model's back end is not installed.

    Example:
        ```python
        from langchain_classic.retrievers import ContextualCompressionRetriever
        from qwen3_rag.langchain import Qwen3Reranker

        reranker = Qwen3Reranker("Qwen/Qwen3-Reranker-0.6B", top_n=3)
        best = reranker.compress_documents(documents, "How is data stored?")
        retriever = ContextualCompressionRetriever(base_retriever=bm25, base_compressor=reranker)
        ```
    """

    top_n: int | None = 3
    score_threshold: float | None = None

    def __init__(
        self,
        model: Any = DEFAULT_RERANKER_MODEL,
        *,
        instruction: str | None = None,
        top_n: int | None = 3,
        score_threshold: float | None = None,
        **options: Any,
    ) -> None:
        check_selection(top_n, score_threshold)
        super().__init__(model, instruction=instruction, top_n=top_n, score_threshold=score_threshold, **options)

    def with_options(self, **options: Unpack[RerankOptions]) -> Self:
        """Returns a copy with other settings that shares the weights with this one.

        Args:
            **options: `instruction`, `top_n`, `score_threshold`; what is not named stays.

        Raises:
            ConfigurationError: If a value can't work or a name is unknown.
        """
        if unknown := sorted(options.keys() - RerankOptions.__annotations__.keys()):
            known = ", ".join(RerankOptions.__annotations__)
            raise ConfigurationError(f"unknown option {', '.join(map(repr, unknown))}: reranking takes {known}")
        copy = self.model_copy(update=dict(options))
        check_selection(copy.top_n, copy.score_threshold)
        if copy.instruction is not None:
            check_instruction(copy.instruction)
        return copy

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        **options: Unpack[RerankOptions],
    ) -> list[Document]:
        """Reranks documents.

        Args:
            documents: Candidates in the order of the first stage; left as they are.
            query: The question.
            callbacks: Told about the step.
            **options: `instruction`, `top_n`, `score_threshold` for this call.

        Returns:
            Copies of at most `top_n` documents, best first. No documents, no model call.
        """
        if options:
            return self.with_options(**options).compress_documents(documents, query, callbacks)
        return self._step().invoke({"query": query, "documents": documents}, RunnableConfig(callbacks=callbacks))

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
        **options: Unpack[RerankOptions],
    ) -> list[Document]:
        """Async twin of `compress_documents`."""
        if options:
            return await self.with_options(**options).acompress_documents(documents, query, callbacks)
        return await self._step().ainvoke({"query": query, "documents": documents}, RunnableConfig(callbacks=callbacks))

    def _step(self) -> Runnable[dict[str, Any], list[Document]]:
        # A Runnable, because that is how LangChain makes a step visible in traces.
        settings = self.model_dump(include=set(RerankOptions.__annotations__))

        def rerank(inputs: dict[str, Any]) -> list[Document]:
            ranked = rerank_items(self.reranker, inputs["query"], inputs["documents"], _text, **settings)
            return [_annotated(item) for item in ranked]

        async def arerank(inputs: dict[str, Any]) -> list[Document]:
            ranked = await arerank_items(self.reranker, inputs["query"], inputs["documents"], _text, **settings)
            return [_annotated(item) for item in ranked]

        return RunnableLambda(rerank, arerank, name=RUN_NAME)


class Qwen3CrossEncoder(_RerankerAdapter, BaseCrossEncoder):
    """Scores (query, document) pairs with Qwen3-Reranker, for whatever takes LangChain's `BaseCrossEncoder`.

    `Qwen3Reranker` is the better choice where there is one: `CrossEncoderReranker` drops the scores.

    Args:
        model: As for `Qwen3Reranker`.
        instruction: As for `Qwen3Reranker`.
        **options: As for `Qwen3Reranker`.

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
        MissingDependencyError: If the model's back end is not installed.

    Example:
        ```python
        from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
        from qwen3_rag.langchain import Qwen3CrossEncoder

        compressor = CrossEncoderReranker(model=Qwen3CrossEncoder("Qwen/Qwen3-Reranker-0.6B"), top_n=3)
        ```
    """

    def score(self, text_pairs: list[tuple[str, str]], *, instruction: str | None = None) -> list[float]:
        """Scores pairs.

        Args:
            text_pairs: Query and document; pairs with the same query share its computation.
            instruction: Overrides the instance's own for this call.

        Returns:
            P(yes) of each pair, in their order.
        """
        result = self.reranker.score_pairs(text_pairs, instruction=self._or_own(instruction))
        return _floats(result)

    async def ascore(self, text_pairs: list[tuple[str, str]], *, instruction: str | None = None) -> list[float]:
        """Async twin of `score`."""
        result = await self.reranker.ascore_pairs(text_pairs, instruction=self._or_own(instruction))
        return _floats(result)

    def _or_own(self, instruction: str | None) -> str | None:
        return self.instruction if instruction is None else instruction


def _floats(result: RerankResult) -> list[float]:
    scores: list[float] = result.scores.tolist()
    return scores


def _text(document: Document) -> str:
    return document.page_content


def _annotated(ranked: Ranked[Document]) -> Document:
    metadata = {**ranked.item.metadata, **ranked.annotations()}
    return ranked.item.model_copy(update={"metadata": metadata})
