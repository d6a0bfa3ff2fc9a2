"""One list out of the two that a hybrid search finds.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009, https://doi.org/10.1145/1571941.1572114) by default,
because the numbers of the sparse leg, BM25's or inner products of a model's sparse vectors, have no upper end and mean
nothing beside a cosine; or a weighted sum of scores, each leg's stretched to 0 … 1 over what it found. It is done here
and not by Milvus, which returns the sum alone and whose weighting of BM25 differs between versions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.types import Hit, Passage

Weights: TypeAlias = tuple[float, float]
"""Of the dense and of the sparse leg; only their ratio matters."""

RRF_K: Final = 60
"""How slowly a rank's worth falls: the constant of the paper, and Milvus's own default."""


@dataclass(frozen=True, slots=True)
class Leg:
    """Where one leg of a hybrid search found a passage.

    Attributes:
        rank: Position in that leg, counted from 1.
        score: Similarity of the vectors; of the sparse leg BM25's number, or the sparse vectors' inner product.
    """

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class FusedHit(Hit):
    """A passage that a hybrid search found. Its `score` lies between 0 and 1.

    Attributes:
        dense: Where the vectors found it, if they did.
        sparse: Where the sparse leg found it, if it did.
    """

    dense: Leg | None = None
    sparse: Leg | None = None


def check_weights(weights: Sequence[float] | None) -> Weights | None:
    """Returns the weights so that they sum up to 1.

    Raises:
        ConfigurationError: If they are not two numbers from 0 upwards, at least one of them more than 0.
    """
    if weights is None:
        return None
    try:
        dense, sparse = (float(weight) for weight in weights)
    except (TypeError, ValueError):
        dense = sparse = math.nan
    total = dense + sparse
    if not (dense >= 0 and sparse >= 0 and 0 < total < math.inf):
        raise ConfigurationError(
            f"weights is {weights!r}, expected two numbers, of the dense and of the sparse leg, such as (0.7, 0.3)"
        )
    return dense / total, sparse / total


def fuse(dense: Sequence[Hit], sparse: Sequence[Hit], weights: Weights | None = None) -> list[FusedHit]:
    """Joins the lists of both legs, the best first; where scores are equal, what the dense leg found comes first.

    Args:
        dense: Hits of the vectors, nearest first.
        sparse: Hits of the sparse leg, best first.
        weights: For a weighted sum, as `check_weights` returns them; `None` is reciprocal rank fusion.

    Returns:
        Every passage once. The score is 1 for one that is first in both legs; without weights it is the reciprocal
        ranks' sum by its largest possible value, with weights the lowest hit of a leg counts as much as one it missed.
    """
    passages: dict[str, Passage] = {hit.passage.id: hit.passage for hit in (*dense, *sparse)}
    by_vector, by_words = _leg(dense), _leg(sparse)
    if weights is None:
        worth = _by_rank(by_vector), _by_rank(by_words)
    else:
        worth = _by_score(by_vector, weights[0]), _by_score(by_words, weights[1])
    fused = [
        FusedHit(passage, sum(leg.get(id_, 0.0) for leg in worth), by_vector.get(id_), by_words.get(id_))
        for id_, passage in passages.items()
    ]
    return sorted(fused, key=lambda hit: -hit.score)


def _leg(hits: Sequence[Hit]) -> dict[str, Leg]:
    return {hit.passage.id: Leg(rank, hit.score) for rank, hit in enumerate(hits, 1)}


def _by_rank(leg: dict[str, Leg]) -> dict[str, float]:
    return {id_: 0.5 * (RRF_K + 1) / (RRF_K + found.rank) for id_, found in leg.items()}


def _by_score(leg: dict[str, Leg], weight: float) -> dict[str, float]:
    scores = [found.score for found in leg.values()]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return {id_: weight * ((found.score - low) / (high - low) if high > low else 1.0) for id_, found in leg.items()}
