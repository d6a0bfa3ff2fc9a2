# ruff: noqa: A002 - LangChain calls it `filter`
"""The reading half of `MilvusStore`: every search of LangChain's `VectorStore`, sync and async."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._convert import diverse, refuse, relevance, scored, to_document
from qwen3_rag.langchain.embeddings import Qwen3Embeddings, Vector
from qwen3_rag.milvus import Filter, MilvusCollection

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

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        **kwargs: Any,
    ) -> list[Scored]:
        """Returns the nearest documents with their similarity.

        Args:
            query: The question.
            k: How many at most.
            filter: Only documents whose metadata match.
            instruction: Query instruction for this call; only with `Qwen3Embeddings`.
            **kwargs: None: anything here raises.

        Returns:
            Nearest first; the score is cosine or inner product, larger is nearer.
        """
        refuse(kwargs)
        vector = self._embedding.embed_query(query, **self._query_options(instruction))
        return scored(self._collection.search(vector, k, filter=filter))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: AnyFilter | None = None,
        instruction: str | None = None,
        **kwargs: Any,
    ) -> list[Scored]:
        """Async twin of `similarity_search_with_score`."""
        refuse(kwargs)
        vector = await self._embedding.aembed_query(query, **self._query_options(instruction))
        return scored(await self._collection.asearch(vector, k, filter=filter))

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
        vector = self._embedding.embed_query(query, **self._query_options(instruction))
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
        vector = await self._embedding.aembed_query(query, **self._query_options(instruction))
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

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance

    def _query_options(self, instruction: str | None) -> dict[str, Any]:
        if instruction is None:
            return {}
        if not isinstance(self._embedding, Qwen3Embeddings):
            raise ConfigurationError(
                f"{type(self._embedding).__name__} takes no instruction, got {instruction!r}: use Qwen3Embeddings"
            )
        return {"instruction": instruction}
