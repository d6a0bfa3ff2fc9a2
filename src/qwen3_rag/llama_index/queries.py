"""What LlamaIndex asks of a vector store, in the words of a collection. Shared by the sync and the async methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import (
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from qwen3_rag.errors import ConfigurationError, InputError, UnsupportedError
from qwen3_rag.llama_index.filters import to_filter
from qwen3_rag.llama_index.nodes import to_node
from qwen3_rag.milvus import And, Compare, Filter, MilvusCollection
from qwen3_rag.types import FloatArray, Hit, SparseVector

MMR_PREFETCH_FACTOR = 4
"""How many times `similarity_top_k` MMR chooses from when nothing else is said."""

_DENSE = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)
_SPARSE = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)
_MODES = (*_DENSE, *_SPARSE, VectorStoreQueryMode.HYBRID)


@dataclass(frozen=True, slots=True)
class Search:
    """A LlamaIndex query in the collection's words.

    Attributes:
        vector: The query's embedding; `None` to search the sparse leg alone.
        text: The question; `None` to search by vector alone.
        k: How many nodes to return.
        filter: What they must fit.
        sparse: The question's sparse vector, for a collection that holds such; `None` asks it with the text.
        weights: Of vector and sparse leg in a hybrid search; `None` is reciprocal rank fusion.
        mmr_threshold: 0 … 1 for MMR, `None` for the nearest.
        fetch_k: What MMR chooses from, or each leg of a hybrid search finds; `None` is the collection's own choice.
    """

    vector: list[float] | None
    text: str | None
    k: int
    filter: Filter | None
    sparse: SparseVector | None = None
    weights: tuple[float, float] | None = None
    mmr_threshold: float | None = None
    fetch_k: int | None = None

    @classmethod
    def of(cls, query: VectorStoreQuery, kwargs: Mapping[str, Any]) -> Self:
        """Reads a query and the arguments beside it; raises for everything that nothing would act on."""
        mode = VectorStoreQueryMode(query.mode)
        _check(query, mode)
        options = dict(kwargs)
        sparse = None if mode in _DENSE else options.pop("sparse_vector", None)
        if mode is not VectorStoreQueryMode.MMR:
            refuse(options)
        k, restriction = query.similarity_top_k, _restriction(query)
        if mode in _SPARSE:
            return cls(None, query.query_str, query.sparse_top_k or k, restriction, sparse)
        if mode is VectorStoreQueryMode.HYBRID:
            fetch_k = None if query.sparse_top_k is None else max(k, query.sparse_top_k)
            k = query.hybrid_top_k or k
            weights = _weights(query.alpha)
            return cls(query.query_embedding, query.query_str, k, restriction, sparse, weights, fetch_k=fetch_k)
        threshold, fetch_k = _mmr(query, options) if mode is VectorStoreQueryMode.MMR else (None, None)
        return cls(query.query_embedding, None, k, restriction, mmr_threshold=threshold, fetch_k=fetch_k)

    def ask(self, collection: MilvusCollection) -> VectorStoreQueryResult:
        """Searches a collection."""
        if self.vector is None:
            return to_result(collection.search_sparse(self.sparse or self.text or "", self.k, filter=self.filter))
        if self.text is not None:
            options: dict[str, Any] = {"weights": self.weights, "fetch_k": self.fetch_k, "filter": self.filter}
            return to_result(collection.hybrid_search(self.vector, self.sparse or self.text, self.k, **options))
        if self.mmr_threshold is None:
            return to_result(collection.search(self.vector, self.k, filter=self.filter))
        hits, vectors = collection.search_with_vectors(self.vector, self.fetch_k or self.k, filter=self.filter)
        return to_result([hits[index] for index in self._diverse(self.vector, vectors)])

    def _diverse(self, vector: list[float], embeddings: FloatArray) -> list[int]:
        """Picks `k` hits by maximal marginal relevance, as LlamaIndex defines it; they keep their similarities."""
        _, chosen = get_top_k_mmr_embeddings(
            vector,
            list(embeddings),  # rows as arrays, which is much faster
            similarity_top_k=self.k,
            embedding_ids=list(range(len(embeddings))),
            mmr_threshold=self.mmr_threshold,
        )
        return [int(index) for index in chosen]


def _check(query: VectorStoreQuery, mode: VectorStoreQueryMode) -> None:
    if mode not in _MODES:
        raise UnsupportedError(f"query mode {mode.value!r} is not supported: use {', '.join(m.value for m in _MODES)}")
    for name in ("embedding_field", "output_fields"):
        if getattr(query, name) is not None:
            raise UnsupportedError(f"{name}={getattr(query, name)!r}: a collection has one vector, and all fields come")
    only_hybrid = {"alpha": query.alpha, "hybrid_top_k": query.hybrid_top_k}
    for name, value in only_hybrid.items() if mode is not VectorStoreQueryMode.HYBRID else ():
        if value is not None:
            raise ConfigurationError(
                f"{name}={value!r} would be ignored with the query mode {mode.value!r}: use hybrid"
            )
    if query.sparse_top_k is not None and mode in _DENSE:
        raise ConfigurationError(
            f"sparse_top_k={query.sparse_top_k!r} would be ignored with the query mode {mode.value!r}"
        )
    if query.query_embedding is None and mode not in _SPARSE:
        raise InputError(
            "the query has no embedding: set query_embedding, or ask an index, which embeds every question but an empty one"
        )
    if not query.query_str and mode not in _DENSE:
        raise InputError(
            f"the query mode {mode.value!r} searches the sparse leg, so it needs query_str, got {query.query_str!r}"
        )


def check_alpha(alpha: Any) -> None:
    """Checks the weight of the vectors in a hybrid search.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(alpha, Real) or not 0 <= float(alpha) <= 1:
        raise ConfigurationError(f"alpha must be in [0, 1], from the sparse leg alone to vectors alone, got {alpha!r}")


def _weights(alpha: float | None) -> tuple[float, float] | None:
    """LlamaIndex's `alpha`, from 0, the sparse leg alone, to 1, dense vectors alone."""
    if alpha is None:
        return None
    check_alpha(alpha)
    return alpha, 1 - alpha


def _mmr(query: VectorStoreQuery, options: dict[str, Any]) -> tuple[float, int]:
    threshold = options.pop("mmr_threshold", query.mmr_threshold)
    threshold = 0.5 if threshold is None else threshold
    fetch_k, factor = options.pop("mmr_prefetch_k", None), options.pop("mmr_prefetch_factor", None)
    refuse(options)
    if not 0 <= threshold <= 1:
        raise ConfigurationError(f"mmr_threshold must be in [0, 1], got {threshold!r}")
    if fetch_k is not None and factor is not None:
        raise ConfigurationError(f"give mmr_prefetch_k={fetch_k!r} or mmr_prefetch_factor={factor!r}, not both")
    if fetch_k is None:
        fetch_k = int(query.similarity_top_k * (MMR_PREFETCH_FACTOR if factor is None else factor))
    return threshold, max(fetch_k, query.similarity_top_k)


def _restriction(query: VectorStoreQuery) -> Filter | None:
    parts = [] if query.doc_ids is None else [Compare("$doc_id", "in", query.doc_ids)]
    # LlamaIndex's index retrievers always send `node_ids`, so an empty list restricts nothing; an empty `doc_ids` does.
    rest = selection(query.node_ids or None, query.filters)
    return And(*parts, rest) if parts or rest != And() else None


def selection(node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Filter:
    """Joins ids and filters; `And()`, which fits everything, if there are neither."""
    converted = to_filter(filters)
    ids = [] if node_ids is None else [Compare("$id", "in", node_ids)]
    return And(*ids, *([] if converted is None else [converted]))


def deletion(node_ids: Sequence[str] | None, filters: MetadataFilters | None) -> dict[str, Any]:
    """The arguments of `MilvusCollection.delete`; raises if they would mean everything."""
    if filters is None and node_ids is not None:
        return {"ids": node_ids}
    both = selection(node_ids, filters)
    if both == And():
        raise InputError("delete_nodes needs node_ids or filters: clear() deletes everything")
    return {"filter": both}


def of_document(ref_doc_id: Any) -> Filter:
    """The nodes of a document; never those without one."""
    if not isinstance(ref_doc_id, str) or ref_doc_id in ("", "None"):  # "None" is how Milvus rows say "no document"
        raise InputError(f"ref_doc_id must be the id of a document, got {ref_doc_id!r}: delete_nodes deletes by node")
    return Compare("$doc_id", "==", ref_doc_id)


def to_result(hits: Sequence[Hit]) -> VectorStoreQueryResult:
    """Hits as LlamaIndex wants them."""
    return VectorStoreQueryResult(
        nodes=[to_node(hit.passage) for hit in hits],
        similarities=[hit.score for hit in hits],
        ids=[hit.passage.id for hit in hits],
    )


def refuse(unknown: Mapping[str, Any]) -> None:
    """Raises for arguments that nothing would act on."""
    if unknown:
        raise ConfigurationError(f"unknown argument {', '.join(map(repr, unknown))}: MilvusStore ignores nothing")
