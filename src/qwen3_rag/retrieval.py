"""Over-fetch, rerank, threshold, top-n: what both frameworks' rerankers and retrievers call, over one source or many."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import zip_longest
from numbers import Real
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.milvus import FusedHit
from qwen3_rag.types import Hit, Reranker, RerankResult

T = TypeVar("T")

Mode: TypeAlias = Literal["dense", "sparse", "hybrid"]
"""By vector, by words (BM25), or by both."""

RELEVANCE_SCORE = "relevance_score"
"""Metadata key of the reranker's P(yes)."""

RETRIEVAL_SCORE = "retrieval_score"
"""Metadata key of the first stage's similarity, where the store gives one."""

RETRIEVAL_RANK = "retrieval_rank"
"""Metadata key of the position before reranking, counted from 1."""

RETRIEVAL_COLLECTION = "retrieval_collection"
"""Metadata key of the source that a candidate came from, where several were searched."""

MAX_THREADS = 8
"""Sources that are searched at the same time by a synchronous call."""

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
        InputError: If the metadata are no mapping, their keys no strings, or they hold themselves.
    """
    own = copied_metadata(metadata)
    try:
        content = json.dumps([text, own], sort_keys=True, default=str)
    except TypeError as error:
        raise InputError(f"metadata keys must be strings, got {list(own)!r}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"metadata with the keys {list(own)!r} can't be written as JSON: {error}") from error
    return hashlib.sha256(content.encode()).hexdigest()


def copied_metadata(metadata: Any) -> dict[str, Any]:
    """Returns a copy of a passage's metadata.

    Raises:
        InputError: If they are no mapping.
    """
    if not isinstance(metadata, Mapping):
        raise InputError(f"metadata must be a mapping, {{}} where there are none, got {metadata!r:.80}")
    return dict(metadata)


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
    if score_threshold is not None and not (isinstance(score_threshold, Real) and 0 <= score_threshold <= 1):
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


def check_mode(mode: Any) -> Mode:
    """Returns a mode of search.

    Raises:
        ConfigurationError: If there is none of that name.
    """
    if mode not in get_args(Mode):
        raise ConfigurationError(f"mode is {mode!r}, expected one of {', '.join(get_args(Mode))}")
    found: Mode = mode
    return found


def leg_annotations(hit: Hit) -> dict[str, Any]:
    """The metadata that tell where each leg of a hybrid search found a hit: `dense_rank`, `dense_score`, `sparse_…`."""
    legs = {"dense": hit.dense, "sparse": hit.sparse} if isinstance(hit, FusedHit) else {}
    found = {name: leg for name, leg in legs.items() if leg is not None}
    return {f"{name}_{key}": getattr(leg, key) for name, leg in found.items() for key in ("rank", "score")}


def check_names(names: Any) -> None:
    """Checks a list of names of sources.

    Raises:
        ConfigurationError: If it is none; one name alone is none either.
    """
    listed = isinstance(names, Sequence | set | frozenset) and not isinstance(names, str | bytes)
    if not listed or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"collections is {names!r}, expected a list of names")


def allowed(known: Sequence[str], *allow_lists: Sequence[str] | None) -> list[str]:
    """Narrows the names of sources by one allow-list after the other.

    Args:
        known: All names, in the order in which they are searched.
        *allow_lists: Each may only name what the ones before it left; `None` leaves all, an empty one leaves none.

    Returns:
        What is left, in the order of `known`.

    Raises:
        ConfigurationError: If a list is no list, or names something that is unknown or was not allowed before.
    """
    left = list(known)
    for names in allow_lists:
        if names is None:
            continue
        check_names(names)
        if refused := [name for name in names if name not in left]:
            raise ConfigurationError(
                f"collections {', '.join(map(repr, refused))} can't be searched here: allowed are "
                f"{', '.join(map(repr, left)) or 'none'}"
            )
        left = [name for name in left if name in names]
    return left


def search_all(searches: Mapping[str, Callable[[], Sequence[T]]]) -> dict[str, Sequence[T]]:
    """Runs searches at the same time, each in the caller's context; the first failure is raised once none is running.

    Args:
        searches: By the name of the source.

    Returns:
        What each found, in the order given.
    """
    if not searches:
        return {}
    with ThreadPoolExecutor(min(len(searches), MAX_THREADS), thread_name_prefix="qwen3-rag-search") as pool:
        running = {name: pool.submit(copy_context().run, search) for name, search in searches.items()}
        try:
            return {name: future.result() for name, future in running.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # those that a failure finds waiting need not begin


async def asearch_all(searches: Mapping[str, Callable[[], Awaitable[Sequence[T]]]]) -> dict[str, Sequence[T]]:
    """Async twin of `search_all`; the others are cancelled by the first failure."""
    running = [asyncio.ensure_future(search()) for search in searches.values()]
    try:
        found = await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return dict(zip(searches, found, strict=True))


def interleave(found: Mapping[str, Sequence[T]], key: Callable[[T], Hashable]) -> list[tuple[str, T]]:
    """Joins the candidates of several sources for one reranking: the first of each, then the second of each, and so on.

    Scores of different collections don't compare (other models, other statistics), ranks do; and the reranker's order
    is the one that counts.

    Args:
        found: Candidates by source, the best first.
        key: What makes two candidates the same; the later of them is left out.

    Returns:
        The candidates with the names of their sources.
    """
    rows = zip_longest(*([(name, item) for item in items] for name, items in found.items()))
    distinct: dict[Hashable, tuple[str, T]] = {}
    for pair in (pair for row in rows for pair in row if pair is not None):
        distinct.setdefault(key(pair[1]), pair)
    return list(distinct.values())


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
    items: Iterable[T],
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
    if not (candidates := list(items)):
        return []
    result = reranker.rerank(query, [text(item) for item in candidates], instruction=instruction)
    return select(candidates, result, top_n=top_n, score_threshold=score_threshold)


async def arerank_items(
    reranker: Reranker,
    query: str,
    items: Iterable[T],
    text: Callable[[T], str],
    *,
    top_n: int | None = None,
    score_threshold: float | None = None,
    instruction: str | None = None,
) -> list[Ranked[T]]:
    """Async twin of `rerank_items`."""
    check_selection(top_n, score_threshold)
    if not (candidates := list(items)):
        return []
    result = await reranker.arerank(query, [text(item) for item in candidates], instruction=instruction)
    return select(candidates, result, top_n=top_n, score_threshold=score_threshold)
