"""The first stage of an ingest: which of the passages that were read are new, and which only get a label more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock

from qwen3_rag.errors import InputError
from qwen3_rag.ingest.report import RowFailure
from qwen3_rag.ingest.roots import SeenIds, roots_of, with_roots
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage


@dataclass(frozen=True, slots=True)
class Placed:
    """A passage that was cut from a file.

    Attributes:
        passage: The passage.
        root: Label of what it was found below.
        fraction: Share of all files' bytes up to its end.
    """

    passage: Passage
    root: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages on their way.

    Attributes:
        fresh: Those that are not in the collection.
        claims: For each label, ids that are there, or will be, under other labels.
        clashes: Passages whose id another passage of this ingest has.
        passages: How many passages the batch had, with those that need nothing.
        fraction: Share of all files' bytes up to its end.
    """

    fresh: list[Passage]
    claims: dict[str, list[str]]
    clashes: list[RowFailure]
    passages: int
    fraction: float


class InFlight:
    """The ids that are on their way to the collection, and under which labels."""

    def __init__(self) -> None:
        self._roots: dict[str, str] = {}
        self._lock = Lock()

    def roots(self, ids: Iterable[str]) -> dict[str, str]:
        """Returns the labels of those ids that are on their way now."""
        with self._lock:
            return {id_: self._roots[id_] for id_ in ids if id_ in self._roots}

    def add(self, fresh: dict[str, str]) -> None:
        """Adds ids with their labels."""
        with self._lock:
            self._roots |= fresh

    def remove(self, passages: Iterable[Passage]) -> None:
        """Takes out what has arrived."""
        with self._lock:
            for passage in passages:
                self._roots.pop(passage.id, None)


@dataclass(slots=True)
class Lookup:
    """Finds out which passages are new. It runs in the reading thread.

    Attributes:
        collection: Where they may be already.
        flying: What is on its way there.
        seen: Told of every passage that was read.
    """

    collection: MilvusCollection
    flying: InFlight
    seen: SeenIds

    def batches(self, placed: Iterator[Placed], size: int) -> Iterator[Batch]:
        """Groups passages, and sorts out which of them have to be embedded."""
        while group := list(islice(placed, size)):
            yield self._sort(group)

    def _sort(self, read: Sequence[Placed]) -> Batch:
        group, clashes = self._apart(read)
        ids = list(dict.fromkeys(each.passage.id for each in group))
        # In this order: what is not on its way any more has been written before, and is found.
        flying = self.flying.roots(ids)
        known = {passage.id: passage for passage in self.collection.get(ids)}
        fresh: dict[str, Placed] = {}
        claims: dict[str, list[str]] = {}
        for each in group:
            id_, root = each.passage.id, each.root
            if id_ in flying or id_ in fresh:
                foreign = root != (flying[id_] if id_ in flying else fresh[id_].root)
            elif id_ in known and known[id_].text == each.passage.text:
                labels = roots_of(known[id_])
                foreign = bool(labels) and root not in labels
            else:
                fresh[id_] = each if id_ not in known else _in_place_of(known[id_], each)
                continue
            if foreign:
                claims.setdefault(root, []).append(id_)
        self.flying.add({id_: each.root for id_, each in fresh.items()})
        return Batch([each.passage for each in fresh.values()], claims, clashes, len(read), read[-1].fraction)

    def _apart(self, read: Sequence[Placed]) -> tuple[list[Placed], list[RowFailure]]:
        """Sets apart the passages that would take the place of another one, as ids of the splitter's own may have it."""
        kept, clashes = [], []
        for each in read:
            other = self.seen.add(each.passage, each.root)
            if other is None:
                kept.append(each)
                continue
            error = InputError(f"the splitter gave this id to another passage too, of {other!r}: ids must be unique")
            clashes.append(RowFailure.of(each.passage, error))
        return kept, clashes


def _in_place_of(stored: Passage, placed: Placed) -> Placed:
    """A passage with an id of the splitter's own whose text has changed: it is found where the old one was, too."""
    labels = dict.fromkeys([*roots_of(stored), placed.root])
    return replace(placed, passage=replace(placed.passage, metadata=with_roots(placed.passage, list(labels))))
