"""What LlamaIndex asks of a vector store, in the words of a collection. Shared by the sync and the async methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from qwen3_rag.milvus import And, Compare, Filter
from qwen3_rag.types import FloatArray, Hit

MMR_PREFETCH_FACTOR = 4
"""How many times `similarity_top_k` MMR chooses from when nothing else is said."""

_MODES = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR)


@dataclass(frozen=True, slots=True)
class Search:
    """A LlamaIndex query in the collection's words.

    Attributes:
        vector: The query's embedding.
        k: How many nodes to return.
        filter: What they must fit.
        mmr_threshold: 0 … 1 for MMR, `None` for the nearest.
        fetch_k: What MMR chooses from.
    """

    vector: list[float]
    k: int
    filter: Filter | None
    mmr_threshold: float | None = None
    fetch_k: int = 0

    @classmethod
    def of(cls, query: VectorStoreQuery, kwargs: Mapping[str, Any]) -> Self:
        """Reads a query and the arguments beside it; raises for everything that nothing would act on."""
        mode = VectorStoreQueryMode(query.mode)
        if mode not in _MODES:
            raise UnsupportedError(
                f"query mode {mode.value!r} is not supported: use {' or '.join(m.value for m in _MODES)}"
            )
        for name in ("embedding_field", "output_fields"):
            if getattr(query, name) is not None:
                raise UnsupportedError(
                    f"{name}={getattr(query, name)!r}: a collection has one vector, and all fields come"
                )
        if query.query_embedding is None:
            raise InputError(
                "the query has no embedding: set query_embedding, or ask an index, which embeds every question but an empty one"
            )
        search = query.query_embedding, query.similarity_top_k, _restriction(query)
        if mode is VectorStoreQueryMode.DEFAULT:
            refuse(kwargs)
            return cls(*search)
        return cls(*search, *_mmr(query, dict(kwargs)))

    def diverse(self, hits: Sequence[Hit], embeddings: FloatArray) -> VectorStoreQueryResult:
        """Picks `k` hits by maximal marginal relevance, as LlamaIndex defines it; they keep their similarities."""
        _, chosen = get_top_k_mmr_embeddings(
            self.vector,
            list(embeddings),  # rows as arrays, which is much faster
            similarity_top_k=self.k,
            embedding_ids=list(range(len(hits))),
            mmr_threshold=self.mmr_threshold,
        )
        return to_result([hits[index] for index in chosen])


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
