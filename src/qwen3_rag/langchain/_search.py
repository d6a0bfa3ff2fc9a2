# ruff: noqa: A002 - LangChain calls it `filter`
"""The reading half of `MilvusStore`: every search of LangChain's `VectorStore`, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._convert import diverse, refuse, relevance, scored, to_document
from qwen3_rag.langchain._questions import MilvusQuestions
from qwen3_rag.langchain._tracing import Search, atraced, traced
from qwen3_rag.langchain.embeddings import Vector
from qwen3_rag.milvus import EmbeddedQuery, Filter
from qwen3_rag.retrieval import Mode, check_mode
from qwen3_rag.types import Hit

AnyFilter: TypeAlias = Filter | Mapping[str, Any]
Scored = tuple[Document, float]


class MilvusSearch(MilvusQuestions):
    """Embeds the query and searches the collection."""

    def hits(
        self,
        query: str,
        k: int = 4,
        *,
        mode: Mode = "dense",
        weights: tuple[float, float] | None = None,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        embedded: EmbeddedQuery | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> list[Hit]:
        """Searches, and returns what LangChain's documents have no place for: `FusedHit`s, if the search is hybrid.

        Args:
            query: The question.
            k: How many at most.
            mode: `"dense"` by vector; `"sparse"` by words (BM25), or by the model's sparse vectors where the collection has
                those; `"hybrid"` by both, fused.
            weights: Of the dense and of the sparse leg of a hybrid search; `None` is reciprocal rank fusion.
            filter: Only documents whose metadata match.
            instruction: Query instruction for this call; only with `Qwen3Embeddings`.
            embedded: What `embed_question` returned for the question and the mode, if it was asked already.
            callbacks: Told about the embedding and the search, a run each.
            **kwargs: None: anything here raises.

        Returns:
            The best first.

        Raises:
            ConfigurationError: If an argument can't work, or nothing would act on it.
            CollectionError: If the collection was written by another model, or has no sparse leg to search.
        """
        refuse(kwargs)
        _check(mode, weights, instruction, embedded)
        if embedded is None:
            self._check_instruction(mode, instruction)
            embedded = self.embed_question(query, mode=mode, instruction=instruction, callbacks=callbacks)
        ask = partial(self._ask, embedded, k, mode=mode, weights=weights, filter=filter)
        return traced(self._told(query, mode, k), callbacks, ask)

    async def ahits(
        self,
        query: str,
        k: int = 4,
        *,
        mode: Mode = "dense",
        weights: tuple[float, float] | None = None,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        embedded: EmbeddedQuery | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> list[Hit]:
        """Async twin of `hits`."""
        refuse(kwargs)
        _check(mode, weights, instruction, embedded)
        if embedded is None:
            await asyncio.to_thread(self._check_instruction, mode, instruction)
            embedded = await self.aembed_question(query, mode=mode, instruction=instruction, callbacks=callbacks)
        ask = partial(asyncio.to_thread, self._ask, embedded, k, mode=mode, weights=weights, filter=filter)
        return await atraced(self._told(query, mode, k), callbacks, ask)

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[Scored]:
        """Returns the best documents with their scores.

        Args:
            query: The question.
            k: How many at most.
            **kwargs: `mode`, `weights`, `filter` and `instruction`, as for `hits`; anything else raises.

        Returns:
            The best first, with cosine or inner product, the number of the sparse leg (BM25's is comparable within
            one answer only), or the fused score between 0 and 1; larger is better.
        """
        return scored(self.hits(query, k, **kwargs))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[Scored]:
        """Async twin of `similarity_search_with_score`."""
        return scored(await self.ahits(query, k, **kwargs))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Returns the nearest documents; arguments as for `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Async twin of `similarity_search`."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    def similarity_search_by_vector(
        self, embedding: Vector, k: int = 4, *, filter: AnyFilter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the documents that are nearest to a vector."""
        refuse(kwargs)
        return [to_document(hit.passage) for hit in self._collection.search(embedding, k, filter=filter)]

    async def asimilarity_search_by_vector(
        self, embedding: Vector, k: int = 4, *, filter: AnyFilter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Async twin of `similarity_search_by_vector`."""
        refuse(kwargs)
        return [to_document(hit.passage) for hit in await self._collection.asearch(embedding, k, filter=filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        instruction: str | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns documents that are near to the query and unlike each other.

        Args:
            query: The question.
            k: How many at most.
            fetch_k: How many of the nearest they are chosen from; at least `k`.
            lambda_mult: From 0, as different as possible, to 1, as near as possible.
            instruction: Query instruction for this call; only with `Qwen3Embeddings`.
            **kwargs: `filter`; anything else raises.
        """
        vector = self.query_vector(query, instruction)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        instruction: str | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Async twin of `max_marginal_relevance_search`."""
        vector = await self.aquery_vector(query, instruction)
        return await self.amax_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Vector,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: AnyFilter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector."""
        refuse(kwargs)
        hits, vectors = self._collection.search_with_vectors(embedding, max(k, fetch_k), filter=filter)
        return diverse(embedding, hits, vectors, k, lambda_mult)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Vector,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: AnyFilter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Async twin of `max_marginal_relevance_search_by_vector`."""
        refuse(kwargs)
        hits, vectors = await self._collection.asearch_with_vectors(embedding, max(k, fetch_k), filter=filter)
        return diverse(embedding, hits, vectors, k, lambda_mult)

    def _similarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> list[Scored]:
        to_relevance = _relevance_of(kwargs.get("mode", "dense"))
        found = self.similarity_search_with_score(query, k, **kwargs)
        return [(document, to_relevance(score)) for document, score in found]

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> list[Scored]:
        to_relevance = _relevance_of(kwargs.get("mode", "dense"))
        found = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(document, to_relevance(score)) for document, score in found]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance

    def _ask(
        self,
        question: EmbeddedQuery,
        k: int,
        *,
        mode: Mode,
        weights: tuple[float, float] | None,
        filter: AnyFilter | None,
    ) -> list[Hit]:
        # A question that was embedded for several collections at once may have a sparse vector where BM25 wants the text.
        sparse = question.sparse_query if mode != "dense" and self.takes_sparse() else question.text
        if question.dense is not None or not isinstance(sparse, str):
            self._verify()
        if mode == "sparse":
            return self._collection.search_sparse(sparse, k, filter=filter)
        if question.dense is None:
            raise ConfigurationError(f"embedded has no dense vector, which mode={mode!r} searches by")
        if mode == "dense":
            return self._collection.search(question.dense, k, filter=filter)
        return [*self._collection.hybrid_search(question.dense, sparse, k, weights=weights, filter=filter)]

    def _told(self, query: str, mode: Mode, k: int) -> Search[list[Hit]]:
        """What callbacks are told of a search."""
        metadata = {"collection": self._collection.name, "mode": mode, "k": k}
        return Search(query, lambda hits: [to_document(hit.passage) for hit in hits], metadata)


def _check(
    mode: Mode, weights: tuple[float, float] | None, instruction: str | None, embedded: EmbeddedQuery | None
) -> None:
    check_mode(mode)
    if instruction is not None and embedded is not None:
        raise ConfigurationError(
            f"instruction={instruction!r} would be ignored with embedded: give it to embed_question"
        )
    if weights is not None and mode != "hybrid":
        raise ConfigurationError(f"weights={weights!r} would be ignored with mode={mode!r}: they weigh a hybrid search")


def _relevance_of(mode: Mode) -> Callable[[float], float]:
    """How a score of a search becomes LangChain's relevance between 0 and 1."""
    if check_mode(mode) == "sparse":
        raise ConfigurationError(
            "the numbers of a sparse leg, such as BM25's, have no upper end, so they are no relevance between 0 and 1: use "
            "mode='hybrid', or take them as they are from similarity_search_with_score"
        )
    return relevance if mode == "dense" else float
