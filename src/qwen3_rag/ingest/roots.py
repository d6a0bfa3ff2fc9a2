"""Who has a passage: the labels that make pruning safe.

A passage's source is the path below what was given, and its id is made of source, headings and text. So two folders can
have the same passage, and then it is stored once. What tells them apart is the metadata key `roots`: a list of labels, one
for every folder, file, pattern, archive or address that the passage was found below. A label is the user's own (`label=`), or
the name of what was given and a digest of where it lies (the absolute path or the address) and of `include=`.

Pruning what was given under a label looks only at passages with this label. Those that are not there any more lose the
label, and a passage without any label left is deleted. Passages that something else put into the collection have no labels
and are never touched. On a server, two ingests that write the same passage within the same milliseconds may leave the label
of one of them: until the next ingest of the other adds its own, pruning the one may take the passage from both.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from qwen3_rag.chunking import SOURCE
from qwen3_rag.ingest.report import Tally
from qwen3_rag.milvus import Compare, MilvusCollection
from qwen3_rag.milvus.metadata import find_ids, replace_metadata
from qwen3_rag.types import Passage

ROOTS = "roots"
"""Metadata key."""

_PAGE = 500


def roots_of(passage: Passage) -> list[str]:
    """The labels of a passage; none if an ingest did not write it."""
    labels = passage.metadata.get(ROOTS)
    return [str(label) for label in labels] if isinstance(labels, list) else []


def with_roots(passage: Passage, labels: Sequence[str]) -> dict[str, Any]:
    """Returns the metadata of a passage with other labels."""
    return {**passage.metadata, ROOTS: list(labels)}


def claim(collection: MilvusCollection, ids: Iterable[str], root: str) -> int:
    """Adds a label to stored passages that have others; returns how many were changed."""
    changes = {
        passage.id: with_roots(passage, [*labels, root])
        for passage in collection.get(list(ids))
        if (labels := roots_of(passage)) and root not in labels
    }
    return replace_metadata(collection, changes)


class SeenIds:
    """What an ingest has met: ids below each label, and texts. It lies in a temporary file, because it may be much."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("CREATE TABLE seen (root TEXT, id TEXT, PRIMARY KEY (root, id)) WITHOUT ROWID")
        database.execute("CREATE TABLE texts (id TEXT PRIMARY KEY, digest BLOB, source TEXT) WITHOUT ROWID")

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[SeenIds]:
        """Opens an empty one, which is gone at the end of the block."""
        # An empty name is a temporary file. Threads use it one after the other.
        with closing(sqlite3.connect("", check_same_thread=False)) as database:
            yield cls(database)

    def add(self, passage: Passage, root: str) -> str | None:
        """Adds a passage below a label.

        Returns:
            `None`; or the source of another passage of this ingest, if that has the same id and not the same text.
        """
        self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (root, passage.id))
        digest = hashlib.sha256(passage.text.encode()).digest()
        self._database.execute(
            "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", (passage.id, digest, str(passage.metadata.get(SOURCE, "")))
        )
        first, source = self._database.execute(
            "SELECT digest, source FROM texts WHERE id = ?", (passage.id,)
        ).fetchone()
        return None if first == digest else source

    def absent(self, root: str, ids: Sequence[str]) -> list[str]:
        """Returns those of the ids that were not met below a label."""
        marks = ", ".join("?" * len(ids))
        query = f"SELECT id FROM seen WHERE root = ? AND id IN ({marks})"  # noqa: S608 - question marks only
        met = {row[0] for row in self._database.execute(query, [root, *ids])}
        return [id_ for id_ in ids if id_ not in met]


def remove_stale(collection: MilvusCollection, roots: Iterable[str], seen: SeenIds, tally: Tally) -> None:
    """Takes the labels away from passages that are no longer below them, and deletes those that have no other.

    Args:
        collection: The collection; killed in the middle, the next pruning goes on.
        roots: The labels of what was read as a whole.
        seen: What was met.
        tally: Counts what is removed and what stays because something else has it.
    """
    for root in dict.fromkeys(roots):
        for ids in find_ids(collection, Compare(ROOTS, "contains", root)):
            for start in range(0, len(ids), _PAGE):
                if stale := seen.absent(root, ids[start : start + _PAGE]):
                    with collection.exclusive():
                        _release(collection, stale, root, tally)


def _release(collection: MilvusCollection, ids: Sequence[str], root: str, tally: Tally) -> None:
    found = collection.get(ids)
    others = {p.id: [label for label in roots_of(p) if label != root] for p in found}
    changes = {p.id: with_roots(p, others[p.id]) for p in found if others[p.id]}
    tally.released += replace_metadata(collection, changes)
    tally.removed += collection.delete(ids=[id_ for id_, labels in others.items() if not labels])
