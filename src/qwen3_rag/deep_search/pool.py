"""All candidates of a deep search: each once, the new ones apart, the best first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from qwen3_rag.answering import SourcePassage
from qwen3_rag.retrieval import interleave

T = TypeVar("T")


class Pool(Generic[T]):
    """Joins what the sub-questions found.

    Two candidates are the same if they have the same text: it is the text that the reranker scores and the model reads.
    Identifiers tell nothing, as two collections may give the same one to different passages.

    Args:
        read: Makes a passage of a framework's own object.
    """

    def __init__(self, read: Callable[[T], SourcePassage]) -> None:
        self._read = read
        self._kept: list[T] = []
        self._numbers: dict[str, int] = {}
        self._found: dict[str, list[int]] = {}
        self._ranked: list[T] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, found: Mapping[str, Sequence[T]]) -> tuple[dict[str, int], list[T]]:
        """Takes what sub-questions found.

        Args:
            found: By sub-question, the best first.

        Returns:
            How many new ones each found, of which the first to find it gets the credit, and the new ones: the best of each
            sub-question, then the second of each, and so on.
        """
        first, new = len(self._kept), {}
        numbers: dict[str, list[int]] = {}
        for question, items in found.items():
            before = len(self._kept)
            numbers[question] = [self._number(item) for item in items]
            new[question] = len(self._kept) - before
        self._found |= numbers
        return new, [self._kept[number] for number in _by_rank(numbers) if number >= first]

    def rank(self, scored: Sequence[T]) -> None:
        """Takes what the reranker made of the new ones: copies with scores, without those under its threshold."""
        together = [*(self._ranked or ()), *scored]
        self._ranked = sorted(together, key=lambda item: -(self._read(item).relevance_score or 0.0))

    def best(self, most: int | None) -> list[T]:
        """Returns the best first: by score where something reranked, else by the best rank that a sub-question gave."""
        if self._ranked is not None:
            return self._ranked[:most]
        return [self._kept[number] for number in _by_rank(self._found)][:most]

    def _number(self, item: T) -> int:
        """Returns the position of a candidate among those that are kept, where it is put if it is new."""
        number = self._numbers.setdefault(self._read(item).text, len(self._kept))
        if number == len(self._kept):
            self._kept.append(item)
        return number


def _by_rank(numbers: Mapping[str, Sequence[int]]) -> list[int]:
    return [number for _, number in interleave(numbers, lambda number: number)]
