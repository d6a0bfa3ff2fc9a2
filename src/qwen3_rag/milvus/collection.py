"""One Milvus collection of passages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from qwen3_rag.errors import ConfigurationError, FilterError, InputError
from qwen3_rag.milvus.checks import check_choice, checked_ids, checked_index, checked_vectors
from qwen3_rag.milvus.connection import Connection, Target
from qwen3_rag.milvus.expressions import compile_condition, id_in
from qwen3_rag.milvus.filters import Filter, parse_filter
from qwen3_rag.milvus.records import batches, to_passage, to_rows
from qwen3_rag.milvus.schema import EMBEDDING, ID, OUTPUT_FIELDS, Layout
from qwen3_rag.milvus.session import ROWS_PER_REQUEST, Session
from qwen3_rag.types import FloatArray, Hit, Passage

Metric: TypeAlias = Literal["COSINE", "IP"]
Consistency: TypeAlias = Literal["Strong", "Bounded", "Session", "Eventually"]
AnyFilter: TypeAlias = Filter | Mapping[str, Any]

DEFAULT_INDEX: Final[Mapping[str, Any]] = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
MAX_K: Final = 16_384
"""Most hits of one search on a Milvus server."""
_MIN_EF: Final = 64


class MilvusCollection:
    """Passages with vectors in Milvus Lite, a Milvus server or Zilliz Cloud.

    Nothing is opened before the first call. `close()` gives everything back, the lock on a local file too; the next
    call opens again. All methods may be called from many threads; writers to one Milvus Lite database take turns.
    While the collection does not exist, reading finds nothing; `upsert` creates it with its index, or leaves nothing.

    A local database belongs to one process at a time. Every method may raise `StoreConnectionError` if it can't be
    opened or reached (with the cause: locked, read-only, no folder, …), `CollectionError` if the collection exists with
    another layout, dimension or metric, and `StoreError` for what else Milvus reports.

    Args:
        uri: Path of a Milvus Lite database (it ends with `.db`; `~`, relative paths and `Path` are fine; its folder
            must exist), or the address of a server (`http://host:19530`, `https://…`).
        collection: Name of the collection.
        token: API key, or `user:password`, of a server; in no repr, log or error.
        db_name: Name of the database on the server.
        metric: `COSINE`, which refuses zero vectors, or `IP`.
        consistency: `Strong` sees every write that was acknowledged; the others trade that for speed on a cluster.
        index: `{"index_type": …, "params": {…}}` for a new collection; by default HNSW, M=16, efConstruction=200.
        timeout: Seconds per request. By default pymilvus decides, and connecting takes at most 10 seconds.

    Raises:
        ConfigurationError: If an argument can't work.
    """

    def __init__(
        self,
        uri: str | Path = "./milvus.db",
        collection: str = "qwen3_rag",
        *,
        token: str | None = None,
        db_name: str | None = None,
        metric: Metric = "COSINE",
        consistency: Consistency = "Strong",
        index: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w{0,254}", collection, re.ASCII):
            raise ConfigurationError(
                f"collection name {collection!r}: use at most 255 letters, digits and underscores, and no digit first"
            )
        check_choice("metric", metric, get_args(Metric))
        check_choice("consistency", consistency, get_args(Consistency))
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"timeout is {timeout!r} seconds, expected more than 0")
        self._session = Session(
            target=Target.parse(uri, token),
            name=collection,
            db_name=db_name,
            metric=metric,
            consistency=consistency,
            index=checked_index(DEFAULT_INDEX if index is None else index),
            timeout=timeout,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r}, {self.name!r}, metric={self._session.metric!r})"

    @property
    def name(self) -> str:
        """Name of the collection."""
        return self._session.name

    @property
    def uri(self) -> str:
        """Absolute path of the database, or address of the server, without credentials."""
        return self._session.target.address

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors; `None` while the collection does not exist."""
        layout = self._session.layout()
        return None if layout is None else layout.dimensions

    def exists(self) -> bool:
        """Whether the collection is there."""
        return self._session.exists()

    def upsert(self, passages: Sequence[Passage], vectors: npt.ArrayLike) -> None:
        """Writes passages; one whose id is there already is replaced as a whole.

        Everything is checked before anything is sent. Many passages go in several requests, in order.

        Args:
            passages: The passages, with unique ids; not changed.
            vectors: Shape `(len(passages), dimensions)`.

        Raises:
            InputError: If a passage or a vector can't be stored; nothing was written.
            CollectionError: If the collection has vectors of another length; nothing was written.
            StoreError: If Milvus fails; the message says how many passages were written before.
        """
        passages = list(passages)
        matrix = checked_vectors(vectors, len(passages), metric=self._session.metric)
        if not passages:
            return

        def send(connection: Connection, layout: Layout) -> bool:
            self._session.check_dimensions(layout, matrix)
            written = 0
            for batch in batches(rows):
                with self._session.translated(f"writing (after {written} of {len(rows)} passages) to"):
                    self._session.replace(connection, batch)
                written += len(batch)
            return True

        with self._session.writing():
            rows = to_rows(passages, matrix, self._session.layout() or Layout(matrix.shape[1]))
            while not self._session.run("writing to", False, send):
                self._session.create(matrix.shape[1])

    def delete(self, *, ids: Sequence[str] | None = None, filter: AnyFilter | None = None) -> int:  # noqa: A002
        """Deletes passages by id or by filter.

        Args:
            ids: Ids; unknown ones don't matter.
            filter: A condition; one that matches everything is refused.

        Returns:
            How many passages were there and are gone.

        Raises:
            InputError: If not exactly one of both is given.
            FilterError: If the filter can't be expressed or matches everything.
        """
        if (ids is None) is (filter is None):
            raise InputError("delete takes either ids or a filter")
        condition = False if filter is None else _condition(filter)
        if condition is True:
            raise FilterError(f"delete with the filter {filter!r} would delete everything; use drop() for that")
        unique = checked_ids(ids or ())

        def send(connection: Connection, _layout: Layout) -> int:
            found = [row[ID] for row in self._session.query_rows(unique, [ID])]
            found += self._session.query_ids(condition)
            for start in range(0, len(found), ROWS_PER_REQUEST):
                expression = id_in(found[start : start + ROWS_PER_REQUEST])
                connection.client.delete(self.name, filter=expression, timeout=self._session.timeout)
            return len(found)

        with self._session.writing():
            return self._session.run("deleting from", 0, send)

    def flush(self) -> None:
        """Writes what was upserted to disk and lets Milvus index it; call it once after an ingest.

        Milvus Lite searches an unflushed collection without its index, which is 10 to 100 times slower.
        """

        def send(connection: Connection, _layout: Layout) -> None:
            connection.client.flush(self.name, timeout=self._session.timeout)

        with self._session.writing():
            self._session.run("flushing", None, send)

    def drop(self) -> None:
        """Deletes the collection with everything in it, if it exists."""
        self._session.drop()

    def search(self, vector: npt.ArrayLike, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Finds the nearest passages.

        Args:
            vector: Shape `(dimensions,)`.
            k: Most hits to return, at most `MAX_K`.
            filter: Only passages that match it.

        Returns:
            Hits, the nearest first.

        Raises:
            InputError: If the vector or `k` can't work.
            FilterError: If the filter can't be expressed; nothing was searched.
            CollectionError: If the collection has vectors of another length.
        """
        return self._search(vector, k, filter, OUTPUT_FIELDS)[0]

    def search_with_vectors(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> tuple[list[Hit], FloatArray]:
        """As `search`, with the vectors of the hits: shape `(len(hits), dimensions)`, in their order."""
        return self._search(vector, k, filter, (*OUTPUT_FIELDS, EMBEDDING))

    def get(self, ids: Sequence[str]) -> list[Passage]:
        """Returns the passages with these ids, in their order; unknown ids and repetitions are left out."""
        unique = checked_ids(ids)

        def send(_connection: Connection, _layout: Layout) -> list[Passage]:
            return self._read(unique)

        return self._session.run("reading from", [], send)

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """Returns those of the ids that are in the collection."""
        unique = checked_ids(ids)

        def send(_connection: Connection, _layout: Layout) -> set[str]:
            return {row[ID] for row in self._session.query_rows(unique, [ID])}

        return self._session.run("reading from", set(), send)

    def find(self, filter: AnyFilter, limit: int | None = None) -> list[Passage]:  # noqa: A002
        """Returns the passages that match a filter, ordered by id: all of them, or the first `limit`.

        Raises:
            InputError: If `limit` is less than 1.
            FilterError: If the filter can't be expressed.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}, expected at least 1, or None for all")
        condition = _condition(filter)

        def send(_connection: Connection, _layout: Layout) -> list[Passage]:
            return self._read(self._session.query_ids(condition, limit))

        return self._session.run("reading from", [], send)

    def count(self) -> int:
        """Returns how many passages there are."""

        def send(_connection: Connection, _layout: Layout) -> int:
            return int(self._session.query("", ["count(*)"])[0]["count(*)"])

        return self._session.run("counting", 0, send)

    async def aupsert(self, passages: Sequence[Passage], vectors: npt.ArrayLike) -> None:
        """Async twin of `upsert`."""
        await asyncio.to_thread(self.upsert, passages, vectors)

    async def asearch(self, vector: npt.ArrayLike, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Async twin of `search`."""
        return await asyncio.to_thread(self.search, vector, k, filter=filter)

    async def asearch_with_vectors(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> tuple[list[Hit], FloatArray]:
        """Async twin of `search_with_vectors`."""
        return await asyncio.to_thread(self.search_with_vectors, vector, k, filter=filter)

    async def aget(self, ids: Sequence[str]) -> list[Passage]:
        """Async twin of `get`."""
        return await asyncio.to_thread(self.get, ids)

    async def afind(self, filter: AnyFilter, limit: int | None = None) -> list[Passage]:  # noqa: A002
        """Async twin of `find`."""
        return await asyncio.to_thread(self.find, filter, limit)

    async def adelete(self, *, ids: Sequence[str] | None = None, filter: AnyFilter | None = None) -> int:  # noqa: A002
        """Async twin of `delete`."""
        return await asyncio.to_thread(self.delete, ids=ids, filter=filter)

    async def acount(self) -> int:
        """Async twin of `count`."""
        return await asyncio.to_thread(self.count)

    def close(self) -> None:
        """Closes the connection and gives a local database back, unless others in this process use it."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, ids: Sequence[str]) -> list[Passage]:
        rows = {row[ID]: row for row in self._session.query_rows(ids, [ID, *OUTPUT_FIELDS])}
        return [to_passage(id_, rows[id_]) for id_ in ids if id_ in rows]

    def _search(
        self,
        vector: npt.ArrayLike,
        k: int,
        filter: AnyFilter | None,  # noqa: A002
        output_fields: Sequence[str],
    ) -> tuple[list[Hit], FloatArray]:
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}, expected 1 to {MAX_K}")
        query = checked_vectors(np.asarray(vector)[None], 1, metric=self._session.metric)
        condition = True if filter is None else _condition(filter)
        nothing: tuple[list[Hit], FloatArray] = [], np.zeros((0, query.shape[1]), np.float32)

        def send(connection: Connection, layout: Layout) -> tuple[list[Hit], FloatArray]:
            self._session.check_dimensions(layout, query)
            if condition is False:
                return nothing
            found = connection.client.search(
                self.name,
                data=query.tolist(),
                anns_field=EMBEDDING,
                limit=k,
                filter="" if condition is True else condition,
                output_fields=list(output_fields),
                search_params={"metric_type": self._session.metric, "params": _search_params(layout.index_type, k)},
                consistency_level=self._session.consistency,
                timeout=self._session.timeout,
            )[0]
            hits = [Hit(to_passage(hit.id, hit["entity"]), float(hit.score)) for hit in found]
            vectors = [hit["entity"].get(EMBEDDING, ()) for hit in found]
            return (hits, np.asarray(vectors, np.float32)) if hits else nothing

        return self._session.run("searching", nothing, send)


def _condition(filter: AnyFilter) -> str | bool:  # noqa: A002
    return compile_condition(parse_filter(filter))


def _search_params(index_type: str, k: int) -> dict[str, Any]:
    """HNSW looks at `ef` candidates, which must be at least `k`; the defaults of the other indexes are fine."""
    return {"ef": max(_MIN_EF, k)} if index_type.startswith("HNSW") else {}
