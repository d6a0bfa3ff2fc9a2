"""Writing to a collection: upsert, delete, flush, drop."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy.typing as npt

from qwen3_rag.errors import CollectionError, FilterError, InputError, TruncationWarning
from qwen3_rag.milvus.checks import AnySparse, checked_ids, checked_sparse, checked_vectors
from qwen3_rag.milvus.columns import OURS, TEXT_BM25, Columns
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.contract import Contract, is_normalized
from qwen3_rag.milvus.expressions import Condition, id_in
from qwen3_rag.milvus.filters import AnyFilter
from qwen3_rag.milvus.reading import CollectionReader
from qwen3_rag.milvus.records import batches, to_rows, with_full_text, with_sparse
from qwen3_rag.milvus.schema import Layout, SparseLeg
from qwen3_rag.milvus.session import ROWS_PER_REQUEST
from qwen3_rag.types import Embedder, FloatArray, Passage, Truncation


class CollectionWriter(CollectionReader):
    """What changes a collection."""

    def check_writable(self) -> None:
        """Opens the collection and refuses it if nothing can be written to it, before texts are embedded for nothing.

        Raises:
            CollectionError: If another tool laid it out in its own way; it can be read and deleted from.
            ConfigurationError: If it does not exist, and `metric` is one that no new collection gets.
        """
        self._session.check_writable()

    def upsert(
        self,
        passages: Sequence[Passage],
        vectors: npt.ArrayLike,
        *,
        sparse: Sequence[AnySparse] | None = None,
        embedder: Embedder | None = None,
        instruction: str | None = None,
    ) -> tuple[Truncation, ...]:
        """Writes passages; one whose id is there already is replaced as a whole.

        Everything is checked before anything is sent. Many passages go in several requests, in order.

        Args:
            passages: The passages, with unique ids; not changed.
            vectors: Shape `(len(passages), dimensions)`.
            sparse: The model's sparse vectors, one for each passage, if the collection has them in its sparse leg; see
                `qwen3_rag.milvus.embed_passages`. A passage whose vector has no entries is found by its dense one alone.
            embedder: What made the vectors. A new collection remembers it, an existing one is compared with it; without
                one, a new collection says nothing of its model.
            instruction: The query instruction to remember, if it is not the embedder's own.

        Returns:
            The passages that BM25 can't see whole, because their words don't fit into 65,535 bytes (Chinese, Japanese
            and Korean take about 7 bytes a character there); a warning says so too. Their texts are stored whole.

        Raises:
            InputError: If a passage or a vector can't be stored; nothing was written.
            CollectionError: If another model wrote the collection, its vectors have another length, it has no place for
                sparse vectors or needs them, or another tool laid it out in its own way; nothing was written.
            ConfigurationError: If the collection does not exist and the metric is `L2`.
            StoreError: If Milvus fails; the message says how many passages were written before.
        """
        passages = list(passages)
        matrix = checked_vectors(vectors, len(passages), metric=self._session.settings.metric)
        weights = None if sparse is None else checked_sparse(sparse, len(passages))
        if not passages:
            return ()

        def send(connection: Connection, layout: Layout) -> tuple[Truncation, ...]:
            self._check_fit(layout, matrix, embedder)
            self._check_sparse(layout.sparse, given=weights is not None)
            complete, cut = with_full_text(rows) if layout.full_text == TEXT_BM25 else (rows, ())
            complete = complete if weights is None else with_sparse(complete, weights)
            written = 0
            for batch in batches(complete):
                with self._session.translated(f"writing (after {written} of {len(rows)} passages) to"):
                    self._session.replace(connection, batch)
                written += len(batch)
            return cut

        with self._session.writing():
            self.check_writable()
            rows = to_rows(passages, matrix, self._session.layout() or Layout(matrix.shape[1]))
            while (cut := self._session.run("writing to", None, send)) is None:
                leg = self._session.sparse()
                self._check_sparse(leg, given=weights is not None)
                contract = None if embedder is None else Contract.of(embedder, matrix, instruction, leg or "none")
                self._session.create(matrix.shape[1], leg, contract)
        _warn_of(cut, passages)
        return cut

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
        condition = Condition(None, ours=False) if filter is None else Condition.of(filter)
        unique = checked_ids(ids or ())

        def matching(columns: Columns = OURS) -> str | bool:
            compiled = condition.on(columns)
            if compiled is True:
                raise FilterError(f"delete with the filter {filter!r} would delete everything; use drop() for that")
            return compiled

        def send(connection: Connection, layout: Layout) -> int:
            columns = layout.columns
            found = [str(row[columns.id]) for row in self._session.query_rows(unique, [], columns)]
            found += self._session.query_ids(layout, matching(columns))
            for start in range(0, len(found), ROWS_PER_REQUEST):
                expression = id_in(found[start : start + ROWS_PER_REQUEST], columns)
                connection.client.delete(self._session.name, filter=expression, timeout=self._session.timeout)
            return len(found)

        matching()
        with self._session.writing():
            return self._session.run("deleting from", 0, send)

    def flush(self) -> None:
        """Writes what was upserted to disk and lets Milvus index it; call it once after an ingest.

        Milvus Lite searches an unflushed collection without its index, which is 10 to 100 times slower.
        """

        def send(connection: Connection, _layout: Layout) -> None:
            connection.client.flush(self._session.name, timeout=self._session.timeout)

        with self._session.writing():
            self._session.run("flushing", None, send)

    def drop(self) -> None:
        """Deletes the collection with everything in it, if it exists."""
        self._session.drop()

    def exclusive(self) -> AbstractContextManager[Any]:
        """Lets the writers of this process to the same Milvus Lite database wait, so that a write can follow from a read.

        On a server, whose writers know nothing of each other, nobody waits.
        """
        return self._session.writing()

    def _check_fit(self, layout: Layout, matrix: FloatArray, embedder: Embedder | None) -> None:
        contract = layout.contract
        if contract is not None and embedder is not None and self._check_model:
            contract.check(self._session.name, embedder)
        self._session.check_dimensions(layout, matrix.shape[1])
        unit_length = contract is not None and contract.normalized and self._session.settings.metric == "IP"
        if unit_length and not is_normalized(matrix):
            raise CollectionError(
                f"collection {self._session.name!r} holds normalised vectors and compares by IP, so longer vectors would "
                "always win: normalise these too, or write them to another collection"
            )

    def _check_sparse(self, leg: SparseLeg | None, *, given: bool) -> None:
        if given == (leg == "model"):
            return
        if given:
            raise CollectionError(
                f"collection {self._session.name!r} has no place for sparse vectors (its sparse leg is {leg!r}): leave sparse= "
                "out, or write to a new collection that is opened with sparse='model'"
            )
        raise CollectionError(
            f"collection {self._session.name!r} holds the sparse vectors of a model, so each passage needs one: pass sparse=…, "
            "which qwen3_rag.milvus.embed_passages makes, or use a collection with sparse='bm25'"
        )


def _warn_of(cut: Sequence[Truncation], passages: Sequence[Passage]) -> None:
    if cut:
        first = cut[0]
        warnings.warn(
            f"{len(cut)} of {len(passages)} passages have more words than BM25 has room for, so it does not see their "
            f"ends: passage {passages[first.index].id!r} lost {first.lost} of {first.tokens} words. Split them",
            TruncationWarning,
            stacklevel=3,
        )
