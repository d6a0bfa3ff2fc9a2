"""The requests that searches are made of: by vector, by the sparse leg, and both at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.analysis import analyse, has_words
from qwen3_rag.milvus.columns import TEXT_BM25
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.records import to_passage
from qwen3_rag.milvus.schema import SPARSE_METRICS, Layout
from qwen3_rag.milvus.session import Session
from qwen3_rag.types import FloatArray, Hit

SparseQuery: TypeAlias = str | dict[int, float]
"""What the sparse leg is asked with: a text for BM25, or weights for the sparse vectors of a model."""

_MIN_EF: Final = 64


@dataclass(frozen=True, slots=True)
class Searcher:
    """Asks an open collection.

    Attributes:
        session: The collection.
        connection: Where it is open.
        layout: Its layout.
        condition: What all hits have to fulfil; `True` is nothing, `False` is not to be fulfilled.
        k: Most hits of one search.
    """

    session: Session
    connection: Connection
    layout: Layout
    condition: str | bool
    k: int

    def by_vector(self, query: FloatArray, *, with_vectors: bool = False) -> tuple[list[Hit], FloatArray]:
        """Finds the nearest passages to a query of shape `(1, dimensions)`, and their vectors if those are asked for.

        Raises:
            CollectionError: If the collection has vectors of another length.
        """
        self.session.check_dimensions(self.layout, query.shape[1])
        field, metric = self.layout.columns.embedding, self.session.settings.metric
        more = (field,) if with_vectors else ()
        found = self._search(field, query.tolist(), metric, self._index_params(), more)
        hits = [self._hit(hit, _similarity(hit.score, metric)) for hit in found]
        return hits, np.asarray([hit["entity"].get(field, ()) for hit in found], np.float32)

    def by_sparse(self, query: SparseQuery) -> list[Hit]:
        """Finds the passages that the sparse leg ranks highest; none that shares no entry with the query.

        Raises:
            CollectionError: If the collection has no sparse leg, or one of the other kind.
        """
        return self._by_words(query) if isinstance(query, str) else self._by_weights(query)

    def by_both(self, query: FloatArray, sparse: SparseQuery) -> tuple[list[Hit], list[Hit]]:
        """Searches by vector and by the sparse leg; at the same time where a server answers.

        Returns:
            What the vector found, and what the sparse leg found.
        """
        if self.connection.lite:  # pure Python, which does one after the other anyway
            return self.by_vector(query)[0], self.by_sparse(sparse)
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(copy_context().run, self.by_sparse, sparse)
            return self.by_vector(query)[0], found.result()

    def _by_words(self, text: str) -> list[Hit]:
        if self.layout.full_text is None:
            raise CollectionError(f"collection {self.session.name!r} {self._instead_of_words()}")
        words = analyse(text) if self.layout.full_text == TEXT_BM25 else text
        if not has_words(words):
            return []
        found = self._search(self.layout.columns.sparse, [words], SPARSE_METRICS["bm25"], {})
        # Milvus Lite reports a distance, which is the negative of what servers report.
        return [self._hit(hit, abs(float(hit.score))) for hit in found]

    def _by_weights(self, weights: dict[int, float]) -> list[Hit]:
        if self.layout.sparse != "model":
            raise CollectionError(
                f"collection {self.session.name!r} holds no sparse vectors of a model to compare with: "
                + ("search it by words, with the text" if self.layout.full_text else self._instead_of_words())
            )
        if not weights:
            return []
        found = self._search(self.layout.columns.sparse, [weights], SPARSE_METRICS["model"], {})
        return [self._hit(hit, float(hit.score)) for hit in found]

    def _instead_of_words(self) -> str:
        if self.layout.sparse == "model":
            return (
                "holds the sparse vectors of a model and no full text, so it can't be searched by words: give the question's "
                "sparse vector, which qwen3_rag.milvus.embed_query makes"
            )
        return (
            "has no full text, so it can't be searched by words: search it by vector alone (mode='dense'), or ingest into "
            "a new collection, which gets full text on Milvus Lite and on servers from version 2.5 on"
        )

    def _search(
        self, field: str | None, data: list[Any], metric: str, params: dict[str, Any], more: Sequence[str] = ()
    ) -> list[Any]:
        if self.condition is False:
            return []
        found = self.connection.client.search(
            self.session.name,
            data=data,
            anns_field=field,
            limit=self.k,
            filter="" if self.condition is True else self.condition,
            output_fields=[*self.layout.columns.output_fields, *more],
            search_params={"metric_type": metric, "params": params},
            consistency_level=self.session.settings.consistency,
            timeout=self.session.timeout,
        )
        return list(found[0])

    def _hit(self, hit: Any, score: float) -> Hit:
        return Hit(to_passage(hit.id, hit["entity"], self.layout.columns), score)

    def _index_params(self) -> dict[str, Any]:
        """HNSW looks at `ef` candidates, which must be at least `k`; the defaults of the other indexes are fine."""
        return {"ef": max(_MIN_EF, self.k)} if self.layout.index_type.startswith("HNSW") else {}


def _similarity(score: Any, metric: str) -> float:
    """What Milvus reports, but the cosine of unit vectors in place of L2, of which Milvus leaves out the square root."""
    return 1 - float(score) / 2 if metric == "L2" else float(score)
