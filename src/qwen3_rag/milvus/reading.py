"""Reading a collection: by vector, by words or sparse vector, by both, by id and by filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from qwen3_rag.errors import InputError
from qwen3_rag.milvus.checks import AnySparse, checked_ids, checked_vectors, checked_weights
from qwen3_rag.milvus.columns import Columns
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.contract import Contract
from qwen3_rag.milvus.expressions import Condition
from qwen3_rag.milvus.filters import AnyFilter
from qwen3_rag.milvus.fusion import FusedHit, Weights, check_weights, fuse
from qwen3_rag.milvus.records import to_passage
from qwen3_rag.milvus.schema import Layout, SparseLeg
from qwen3_rag.milvus.search import Searcher, SparseQuery
from qwen3_rag.milvus.session import Session
from qwen3_rag.types import Embedder, FloatArray, Hit, Passage

MAX_K: Final = 16_384
"""Most hits of one search on a Milvus server."""
MIN_FETCH: Final = 50
FETCH_FACTOR: Final = 4
"""Each leg of a hybrid search finds this many times `k`, and at least `MIN_FETCH`."""


class CollectionReader:
    """What can be asked of a collection without changing it.

    Attributes:
        _session: The open collection.
        _check_model: Whether the contract's model is compared.
    """

    _session: Session
    _check_model: bool

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors; `None` while the collection does not exist."""
        layout = self._session.layout()
        return None if layout is None else layout.dimensions

    @property
    def sparse_leg(self) -> SparseLeg | None:
        """What the sparse leg holds: `"bm25"` words, `"model"` the sparse vectors of a model; `None` if there is no such leg.

        While the collection does not exist, what that of a new one would hold.
        """
        return self._session.sparse()

    @property
    def contract(self) -> Contract | None:
        """What wrote the collection; `None` if it does not say, or does not exist."""
        layout = self._session.layout()
        return None if layout is None else layout.contract

    def exists(self) -> bool:
        """Whether the collection is there."""
        return self._session.exists()

    def verify(self, embedder: Embedder, *, dimensions: int | None = None) -> None:
        """Opens the collection and compares its contract with a model, before that model works for nothing.

        A collection that does not exist, or that another tool wrote, has no contract and fits every model.

        Args:
            embedder: What is to make vectors for it.
            dimensions: Their length, if it is known; another length would be refused with the first vector too.

        Raises:
            CollectionError: If the collection was written by another model, or holds vectors of another length.
        """

        def send(_connection: Connection, layout: Layout) -> None:
            if self._check_model and layout.contract is not None:
                layout.contract.check(self._session.name, embedder)
            if dimensions is not None:
                self._session.check_dimensions(layout, dimensions)

        self._session.run("opening", None, send)

    def search(self, vector: npt.ArrayLike, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Finds the nearest passages.

        Args:
            vector: Shape `(dimensions,)`.
            k: Most hits to return, at most `MAX_K`.
            filter: Only passages that match it.

        Returns:
            Hits, the nearest first; the score is cosine or inner product. With `metric="L2"` it is `1 - distance / 2`, where
            Milvus's distance is the square of L2: the cosine, if the vectors have unit length as Qwen3's have.

        Raises:
            InputError: If the vector or `k` can't work.
            FilterError: If the filter can't be expressed; nothing was searched.
            CollectionError: If the collection has vectors of another length.
        """
        return self._search(vector, k, filter)[0]

    def search_with_vectors(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> tuple[list[Hit], FloatArray]:
        """As `search`, with the vectors of the hits: shape `(len(hits), dimensions)`, in their order."""
        return self._search(vector, k, filter, with_vectors=True)

    def search_text(self, text: str, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Finds the passages that share the rarest words with a text, by BM25.

        Args:
            text: A question, or words, in any language; `qwen3_rag.milvus.analysis` says how it is cut into words.
            k: Most hits to return, at most `MAX_K`.
            filter: Only passages that match it.

        Returns:
            Hits, the best first; none that shares no word. The score is BM25's number: more is better, without an upper
            end, and comparable within this one answer only, since it depends on what else is in the collection and
            on the version of Milvus.

        Raises:
            InputError: If `k` can't work or the text is no string.
            FilterError: If the filter can't be expressed; nothing was searched.
            CollectionError: If the collection has no full text.
        """
        return self._search_sparse(_checked_text(text), k, filter)

    def search_sparse(
        self,
        query: str | AnySparse,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> list[Hit]:
        """Searches the sparse leg alone: finds the passages whose sparse vectors have the largest inner product.

        Args:
            query: The question's sparse vector, by the model that wrote the collection, as `qwen3_rag.milvus.embed_query` makes
                it. Where the leg is BM25, its text, as for `search_text`.
            k: Most hits to return, at most `MAX_K`.
            filter: Only passages that match it.

        Returns:
            Hits, the best first; none that shares no entry. The score has no upper end.

        Raises:
            InputError: If `k` can't work, or the vector has an index or weight that Milvus can't take.
            FilterError: If the filter can't be expressed; nothing was searched.
            CollectionError: If the collection has no sparse leg, or one of the other kind.
        """
        return self._search_sparse(_sparse_query(query), k, filter)

    def hybrid_search(
        self,
        vector: npt.ArrayLike,
        sparse: str | AnySparse,
        k: int = 10,
        *,
        weights: Weights | None = None,
        fetch_k: int | None = None,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> list[FusedHit]:
        """Searches by vector and by the sparse leg and joins both lists.

        Args:
            vector: Shape `(dimensions,)`.
            sparse: A text as for `search_text`, or a vector as for `search_sparse`, as the collection has it.
            k: Most hits to return, at most `MAX_K`.
            weights: Of the dense and of the sparse leg, such as `(0.7, 0.3)`, for a weighted sum of scores, each leg's
                stretched to 0 … 1; `None` is reciprocal rank fusion.
            fetch_k: How many each leg finds before they are joined; `None` is four times `k`, at least 50.
            filter: Only passages that match it, in both legs.

        Returns:
            Hits, the best first, with a score between 0 and 1 and the rank and score that each leg gave them.

        Raises:
            InputError: If a vector, the text, `k` or `fetch_k` can't work.
            ConfigurationError: If the weights can't work.
            FilterError: If the filter can't be expressed; nothing was searched.
            CollectionError: If the collection has no such sparse leg, or vectors of another length.
        """
        asked, condition = _sparse_query(sparse), _checked(k, filter)
        query, shares = self._query(vector), check_weights(weights)
        most = max(MIN_FETCH, FETCH_FACTOR * k) if fetch_k is None else max(k, _checked_k("fetch_k", fetch_k))

        def send(connection: Connection, layout: Layout) -> list[FusedHit]:
            expression = condition.on(layout.columns)
            searcher = Searcher(self._session, connection, layout, expression, min(most, MAX_K))
            return fuse(*searcher.by_both(query, asked), shares)[:k]

        return self._session.run("searching", [], send)

    def get(self, ids: Sequence[str]) -> list[Passage]:
        """Returns the passages with these ids, in their order; unknown ids and repetitions are left out."""
        unique = checked_ids(ids)

        def send(_connection: Connection, layout: Layout) -> list[Passage]:
            return self._read(unique, layout.columns)

        return self._session.run("reading from", [], send)

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Returns those of the ids that are in the collection."""
        unique = checked_ids(ids)

        def send(_connection: Connection, layout: Layout) -> set[str]:
            key, rows = layout.columns.id, self._session.query_rows(unique, [], layout.columns)
            return {str(row[key]) for row in rows}

        return self._session.run("reading from", set(), send)

    def find(self, filter: AnyFilter, limit: int | None = None) -> list[Passage]:  # noqa: A002
        """Returns the passages that match a filter, ordered by id: all of them, or the first `limit`.

        Raises:
            InputError: If `limit` is less than 1.
            FilterError: If the filter can't be expressed.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}, expected at least 1, or None for all")
        condition = Condition.of(filter)

        def send(_connection: Connection, layout: Layout) -> list[Passage]:
            columns = layout.columns
            return self._read(self._session.query_ids(layout, condition.on(columns), limit), columns)

        return self._session.run("reading from", [], send)

    def count(self) -> int:
        """Returns how many passages there are."""

        def send(_connection: Connection, _layout: Layout) -> int:
            return int(self._session.query("", ["count(*)"])[0]["count(*)"])

        return self._session.run("counting", 0, send)

    def _read(self, ids: Sequence[str], columns: Columns) -> list[Passage]:
        found = self._session.query_rows(ids, columns.output_fields, columns)
        rows = {str(row[columns.id]): row for row in found}
        return [to_passage(id_, rows[id_], columns) for id_ in ids if id_ in rows]

    def _search_sparse(self, query: SparseQuery, k: int, filter: AnyFilter | None) -> list[Hit]:  # noqa: A002
        condition = _checked(k, filter)

        def send(connection: Connection, layout: Layout) -> list[Hit]:
            return Searcher(self._session, connection, layout, condition.on(layout.columns), k).by_sparse(query)

        return self._session.run("searching", [], send)

    def _search(
        self,
        vector: npt.ArrayLike,
        k: int,
        filter: AnyFilter | None,  # noqa: A002
        *,
        with_vectors: bool = False,
    ) -> tuple[list[Hit], FloatArray]:
        condition, query = _checked(k, filter), self._query(vector)
        nothing: tuple[list[Hit], FloatArray] = [], np.zeros((0, query.shape[1]), np.float32)

        def send(connection: Connection, layout: Layout) -> tuple[list[Hit], FloatArray]:
            searcher = Searcher(self._session, connection, layout, condition.on(layout.columns), k)
            found = searcher.by_vector(query, with_vectors=with_vectors)
            return found if found[0] else nothing

        return self._session.run("searching", nothing, send)

    def _query(self, vector: npt.ArrayLike) -> FloatArray:
        return checked_vectors(np.asarray(vector)[None], 1, metric=self._session.settings.metric)


def _checked(k: int, filter: AnyFilter | None) -> Condition:  # noqa: A002
    _checked_k("k", k)
    return Condition.of(filter)


def _checked_k(name: str, k: int) -> int:
    if not 1 <= k <= MAX_K:
        raise InputError(f"{name} is {k}, expected 1 to {MAX_K}")
    return k


def _checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"the text to search for is {type(text).__name__}, expected str")
    return text


def _sparse_query(query: str | AnySparse) -> SparseQuery:
    return query if isinstance(query, str) else checked_weights(query)
