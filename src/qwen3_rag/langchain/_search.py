# ruff: noqa: A002 - LangChain calls it `filter`
"""The reading half of `MilvusStore`: every search of LangChain's `VectorStore`, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._convert import diverse, refuse, relevance, scored, to_document
from qwen3_rag.langchain.embeddings import Qwen3Embeddings, Vector
from qwen3_rag.milvus import Filter, MilvusCollection
from qwen3_rag.retrieval import Mode, check_mode
from qwen3_rag.types import Hit

AnyFilter: TypeAlias = Filter | Mapping[str, Any]
Scored = tuple[Document, float]


class MilvusSearch(VectorStore):
    """Embeds the query and searches the collection.

    Attributes:
        _embedding: What embeds queries.
        _collection: Where to search.
    """

    _embedding: Embeddings
    _collection: MilvusCollection

    def hits(
        self,
        query: str,
        k: int = 4,
        *,
        mode: Mode = "dense",
        weights: tuple[float, float] | None = None,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        vector: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> list[Hit]:
        """Searches, and returns what LangChain's documents have no place for: `FusedHit`s, if the search is hybrid.

        Args:
            query: The question.
            k: How many at most.
            mode: `"dense"` by vector, `"sparse"` by words (BM25), `"hybrid"` by both, fused.
            weights: Of the dense and of the sparse leg of a hybrid search; `None` is reciprocal rank fusion.
            filter: Only documents whose metadata match.
            instruction: Query instruction for this call; only with `Qwen3Embeddings`.
            vector: The question's vector, if it is known already.
            **kwargs: None: anything here raises.

        Returns:
            The best first.

        Raises:
            ConfigurationError: If an argument can't work, or nothing would act on it.
            CollectionError: If the collection was written by another model, or has no full text to search by words.
        """
        refuse(kwargs)
        _check_mode(mode, weights, instruction)
        if vector is None and mode != "sparse":
            vector = self.query_vector(query, instruction)
        return self._ask(query, vector, k, mode=mode, weights=weights, filter=filter)

    async def ahits(
        self,
        query: str,
        k: int = 4,
        *,
        mode: Mode = "dense",
        weights: tuple[float, float] | None = None,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        vector: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> list[Hit]:
        """Async twin of `hits`."""
        refuse(kwargs)
        _check_mode(mode, weights, instruction)
        if vector is None and mode != "sparse":
            vector = await self.aquery_vector(query, instruction)
        return await asyncio.to_thread(self._ask, query, vector, k, mode=mode, weights=weights, filter=filter)

    def query_vector(self, query: str, instruction: str | None = None) -> Vector:
        """Embeds a question, after comparing the model with the collection's contract."""
        options = self._query_options(instruction)
        self._verify()
        return self._embedding.embed_query(query, **options)

    async def aquery_vector(self, query: str, instruction: str | None = None) -> Vector:
        """Async twin of `query_vector`."""
        options = self._query_options(instruction)
        await asyncio.to_thread(self._verify)
        return await self._embedding.aembed_query(query, **options)

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[Scored]:
        """Returns the best documents with their scores.

        Args:
            query: The question.
            k: How many at most.
            **kwargs: `mode`, `weights`, `filter` and `instruction`, as for `hits`; anything else raises.

        Returns:
            The best first, with cosine or inner product, BM25's number (comparable within one answer only), or the
            fused score between 0 and 1; larger is better.
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
        query: str,
        vector: Sequence[float] | None,
        k: int,
        *,
        mode: Mode,
        weights: tuple[float, float] | None,
        filter: AnyFilter | None,
    ) -> list[Hit]:
        if mode == "sparse" or vector is None:
            return self._collection.search_text(query, k, filter=filter)
        self._verify()
        if mode == "dense":
            return self._collection.search(vector, k, filter=filter)
        return [*self._collection.hybrid_search(vector, query, k, weights=weights, filter=filter)]

    def _verify(self) -> None:
        """Compares the collection's contract with the model, where the model is one that says its name."""
        if isinstance(self._embedding, Qwen3Embeddings):
            self._collection.verify(self._embedding.embedder, dimensions=self._embedding.dimensions)

    def _query_options(self, instruction: str | None) -> dict[str, Any]:
        if instruction is None:
            return {}
        if not isinstance(self._embedding, Qwen3Embeddings):
            raise ConfigurationError(
                f"{type(self._embedding).__name__} takes no instruction, got {instruction!r}: use Qwen3Embeddings"
            )
        return {"instruction": instruction}


def _check_mode(mode: Mode, weights: tuple[float, float] | None, instruction: str | None) -> None:
    check_mode(mode)
    if weights is not None and mode != "hybrid":
        raise ConfigurationError(f"weights={weights!r} would be ignored with mode={mode!r}: they weigh a hybrid search")
    if instruction is not None and mode == "sparse":
        raise ConfigurationError(
            f"instruction={instruction!r} would be ignored with mode='sparse', which embeds nothing"
        )


def _relevance_of(mode: Mode) -> Callable[[float], float]:
    """How a score of a search becomes LangChain's relevance between 0 and 1."""
    if check_mode(mode) == "sparse":
        raise ConfigurationError(
            "BM25's numbers have no upper end, so they are no relevance between 0 and 1: use mode='hybrid', or take them "
            "as they are from similarity_search_with_score"
        )
    return relevance if mode == "dense" else float
