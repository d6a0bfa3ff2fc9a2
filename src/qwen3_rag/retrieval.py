"""Over-fetch, rerank, threshold, top-n: the second stage that both frameworks' rerankers and retrievers call."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.types import Reranker, RerankResult

T = TypeVar("T")

RELEVANCE_SCORE = "relevance_score"
"""Metadata key of the reranker's P(yes)."""

RETRIEVAL_SCORE = "retrieval_score"
"""Metadata key of the first stage's similarity, where the store gives one."""

RETRIEVAL_RANK = "retrieval_rank"
"""Metadata key of the position before reranking, counted from 1."""

DEFAULT_K = 10
"""Candidates that a retriever fetches from a vector store when nothing else is said."""


def content_id(text: str, metadata: Mapping[str, Any]) -> str:
    """Returns an identifier that follows from a passage's content: the SHA-256, in hexadecimal, over its JSON.

    With it as the default, storing the same passages again replaces them instead of doubling the collection, and both
    frameworks give a passage the same identifier.

    Args:
        text: The passage's text.
        metadata: Its metadata; values that JSON does not know count by their `str`.

    Raises:
        InputError: If keys of the metadata are no strings.
    """
    try:
        content = json.dumps([text, dict(metadata)], sort_keys=True, default=str)
    except TypeError as error:
        raise InputError(f"metadata keys must be strings, got {list(metadata)!r}") from error
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Ranked(Generic[T]):
    """An item after reranking.

    Attributes:
        item: The caller's own object, untouched.
        score: The reranker's P(yes).
        rank_before: Position before reranking, counted from 1.
    """

    item: T
    score: float
    rank_before: int

    def annotations(self) -> dict[str, Any]:
        """The metadata that an adapter adds to its copy of the item."""
        return {RELEVANCE_SCORE: self.score, RETRIEVAL_RANK: self.rank_before}


def check_selection(top_n: int | None, score_threshold: float | None) -> None:
    """Checks the two options of every second stage.

    Raises:
        ConfigurationError: If `top_n` is not positive or the threshold is not a probability.
    """
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1):
        raise ConfigurationError(f"top_n must be a positive integer or None for all, got {top_n!r}")
    if score_threshold is not None and not (math.isfinite(score_threshold) and 0 <= score_threshold <= 1):
        raise ConfigurationError(
            f"score_threshold is compared with P(yes), so it must be in [0, 1], got {score_threshold!r}"
        )


def check_k(k: int) -> None:
    """Checks the number of candidates that a first stage fetches.

    Raises:
        ConfigurationError: If it is not a positive integer.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigurationError(f"k must be a positive integer, got {k!r}")


def select(
    items: Sequence[T], result: RerankResult, *, top_n: int | None = None, score_threshold: float | None = None
) -> list[Ranked[T]]:
    """Orders items by their scores, best first; equal scores keep the order of the first stage.

    Args:
        items: What was scored, in the order of `result.scores`.
        result: The scores.
        top_n: How many to keep at most; `None` keeps all.
        score_threshold: Lowest P(yes) to keep; `None` keeps all.

    Returns:
        At most `top_n` items with their score and the rank they had.
    """
    check_selection(top_n, score_threshold)
    ranked = [
        Ranked(item, float(score), rank)
        for rank, (item, score) in enumerate(zip(items, result.scores.tolist(), strict=True), start=1)
    ]
    # The logit orders what the sigmoid has rounded to the same 1.0.
    logits = result.logits.tolist()
    ranked.sort(key=lambda r: -logits[r.rank_before - 1])
    return [r for r in ranked if score_threshold is None or r.score >= score_threshold][:top_n]


def rerank_items(
    reranker: Reranker,
    query: str,
    items: Sequence[T],
    text: Callable[[T], str],
    *,
    top_n: int | None = None,
    score_threshold: float | None = None,
    instruction: str | None = None,
) -> list[Ranked[T]]:
    """Scores and orders items of any type.

    Args:
        reranker: What scores.
        query: The question.
        items: Candidates in the order of the first stage.
        text: Gives the text of an item.
        top_n: How many to keep at most; `None` keeps all.
        score_threshold: Lowest P(yes) to keep; `None` keeps all.
        instruction: Overrides the reranker's own for this call.

    Returns:
        The kept items, best first. No candidates, no model call.
    """
    check_selection(top_n, score_threshold)
    if not items:
        return []
    result = reranker.rerank(query, [text(item) for item in items], instruction=instruction)
    return select(items, result, top_n=top_n, score_threshold=score_threshold)


async def arerank_items(
    reranker: Reranker,
    query: str,
    items: Sequence[T],
    text: Callable[[T], str],
    *,
    top_n: int | None = None,
    score_threshold: float | None = None,
    instruction: str | None = None,
) -> list[Ranked[T]]:
    """Async twin of `rerank_items`."""
    check_selection(top_n, score_threshold)
    if not items:
        return []
    result = await reranker.arerank(query, [text(item) for item in items], instruction=instruction)
    return select(items, result, top_n=top_n, score_threshold=score_threshold)
