"""Three stages at once: one thread reads, cuts and looks up, the caller's embeds, one writes.

Between them lie at most `AHEAD` batches, so memory is bounded and a slow stage holds up the others instead of being run
over. Counters are changed in the caller's thread alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from qwen3_rag.errors import InputError, Qwen3RagError
from qwen3_rag.ingest.embedding import Embed, Embedded, Vectors, embed_batch
from qwen3_rag.ingest.lookup import Batch, InFlight
from qwen3_rag.ingest.report import IngestProgress, RowFailure, Tally
from qwen3_rag.ingest.roots import claim, roots_of, with_roots
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Embedder, Passage, Truncation

AHEAD: Final = 2
"""Batches that wait before each stage."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    Attributes:
        batch: The batch.
        embedded: What the model made of it.
        added: How many passages were stored.
        claimed: How many got a label more.
        failed: What could not be embedded or stored.
        unlabelled: What is stored, and has no room for a label more.
        unseen: Passages that BM25 does not see whole, by id.
    """

    batch: Batch
    embedded: Embedded
    added: int
    claimed: int
    failed: list[RowFailure]
    unlabelled: list[RowFailure]
    unseen: list[tuple[str, Truncation]]


@dataclass(slots=True)
class Writer:
    """Stores what was embedded. It runs in the writing thread.

    Attributes:
        collection: Where to.
        embedder: What a new collection remembers.
        flying: Told of what has arrived.
    """

    collection: MilvusCollection
    embedder: Embedder
    flying: InFlight
    _broken: bool = False

    def write(self, batch: Batch, embedded: Embedded) -> Written | None:
        """Writes a batch; returns `None` if one before it could not be written."""
        if self._broken:
            return None
        self._broken = True  # until this batch is written
        with self.collection.exclusive():
            written = self._write(batch, embedded)
        self._broken = False
        return written

    def _write(self, batch: Batch, embedded: Embedded) -> Written:
        done = [batch.fresh[position] for position in sorted(embedded.vectors)]
        failed = [RowFailure.of(batch.fresh[at], error) for at, error in sorted(embedded.failed.items())]
        unseen: list[tuple[str, Truncation]] = []
        refused: list[RowFailure] = []
        if done:
            done = self._labelled(done)
            self._store(done, [vectors for _, vectors in sorted(embedded.vectors.items())], unseen, refused)
        unlabelled: list[RowFailure] = []
        claimed = sum(self._claim(ids, root, unlabelled) for root, ids in batch.claims.items())
        self.flying.remove(batch.fresh)
        return Written(batch, embedded, len(done) - len(refused), claimed, failed + refused, unlabelled, unseen)

    def _labelled(self, passages: Sequence[Passage]) -> list[Passage]:
        """Adds the labels under which another ingest has stored a passage since it was looked up, an embedding ago."""
        meanwhile = {passage.id: roots_of(passage) for passage in self.collection.get([p.id for p in passages])}
        labels = {p.id: dict.fromkeys([*meanwhile.get(p.id, ()), *roots_of(p)]) for p in passages}
        return [replace(p, metadata=with_roots(p, list(labels[p.id]))) for p in passages]

    def _claim(self, ids: Sequence[str], root: str, refused: list[RowFailure]) -> int:
        """Adds a label; a passage whose metadata has no room for it (after some 300 long ones) takes no other with it."""
        try:
            return claim(self.collection, ids, root)
        except InputError as error:
            if len(ids) == 1:
                refused.extend(RowFailure.of(passage, error) for passage in self.collection.get(ids))
                return 0
            middle = len(ids) // 2
            return sum(self._claim(half, root, refused) for half in (ids[:middle], ids[middle:]))

    def _store(
        self,
        passages: Sequence[Passage],
        vectors: Sequence[Vectors],
        unseen: list[tuple[str, Truncation]],
        refused: list[RowFailure],
    ) -> None:
        """Stores what can be stored: the store checks everything before it writes, so halving finds what it refuses."""
        try:
            dense = np.stack([each.dense for each in vectors])
            sparse = [each.sparse for each in vectors if each.sparse is not None]
            cuts = self.collection.upsert(passages, dense, sparse=sparse or None, embedder=self.embedder)
        except InputError as error:
            if len(passages) == 1:
                refused.append(RowFailure.of(passages[0], error))
                return
            middle = len(passages) // 2
            for half in (slice(None, middle), slice(middle, None)):
                self._store(passages[half], vectors[half], unseen, refused)
        else:
            unseen.extend((passages[cut.index].id, cut) for cut in cuts)


@dataclass(slots=True)
class Pipeline:
    """Runs the stages.

    Attributes:
        embed: What embeds.
        writer: What stores.
        tally: The counters.
        progress: Told after every batch.
    """

    embed: Embed
    writer: Writer
    tally: Tally
    progress: Callable[[IngestProgress], None] | None
    _writing: deque[Future[Written | None]] = field(default_factory=deque)

    def run(self, batches: Iterator[Batch]) -> None:
        """Brings all batches into the collection.

        Raises:
            BaseException: What any stage raises. What was embedded before is stored, if the store is not what failed.
        """
        with ExitStack() as stack:
            reader = stack.enter_context(ThreadPoolExecutor(1, "qwen3-rag-ingest-read"))
            writer = stack.enter_context(ThreadPoolExecutor(1, "qwen3-rag-ingest-write"))
            stack.callback(reader.shutdown, wait=False, cancel_futures=True)
            try:
                for batch in _ahead(reader, batches):
                    embedded = embed_batch(self.embed, [passage.text for passage in batch.fresh])
                    self._writing.append(writer.submit(copy_context().run, self.writer.write, batch, embedded))
                    self._settle(AHEAD)
                    embedded.check()
                self._settle(0)
            except BaseException:
                self.progress = None
                with suppress(Qwen3RagError):  # the first error is the one to tell
                    self._settle(0)
                raise

    def _settle(self, most: int) -> None:
        """Counts what was written, and waits until at most so many batches are unwritten."""
        while self._writing and (len(self._writing) > most or self._writing[0].done()):
            written = self._writing.popleft().result()
            if written is not None:
                self._count(written)

    def _count(self, written: Written) -> None:
        tally, fresh = self.tally, written.batch.fresh
        skipped = len(fresh) - written.added - len(written.failed)  # not embedded, because of an error of all texts
        tally.passages += written.batch.passages - skipped
        tally.fraction = max(tally.fraction, written.batch.fraction)
        tally.added += written.added
        tally.tokens += written.embedded.tokens
        tally.claimed = tally.claimed or bool(written.claimed)
        tally.failed_rows += written.batch.clashes + written.failed + written.unlabelled
        tally.truncated += [(fresh[cut.index].id, cut) for cut in written.embedded.truncated]
        tally.truncated += written.unseen
        if self.progress is not None:
            self.progress(tally.progress())


def _ahead(reader: ThreadPoolExecutor, items: Iterator[T]) -> Iterator[T]:
    """Yields items that another thread prepares, a few ahead of what is asked for."""
    waiting = deque(_ask(reader, items) for _ in range(AHEAD))
    while (item := waiting.popleft().result()) is not None:
        waiting.append(_ask(reader, items))
        yield item


def _ask(reader: ThreadPoolExecutor, items: Iterator[T]) -> Future[T | None]:
    def ask() -> T | None:
        return next(items, None)

    return reader.submit(copy_context().run, ask)
