"""Retrieval quality from rankings: recall, reciprocal rank and nDCG. No framework, no model."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qwen3_rag.errors import ConfigurationError

Rankings = Sequence[Sequence[Hashable]]
Relevance = Sequence[Collection[Hashable]]


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """The figures of one run.

    Attributes:
        queries: Number of queries that they are means over.
        recall: Recall by cut-off.
        ndcg: Normalised discounted cumulative gain by cut-off.
        mrr: Mean reciprocal rank over the first `mrr_cutoff` results.
        mrr_cutoff: Where the reciprocal rank stops counting: the largest cut-off asked for.
    """

    queries: int
    recall: Mapping[int, float] = field(default_factory=dict)
    ndcg: Mapping[int, float] = field(default_factory=dict)
    mrr: float = 0.0
    mrr_cutoff: int = 10

    def figures(self) -> dict[str, float]:
        """Recall at every cut-off, reciprocal rank and nDCG at the last one, by the names that people know."""
        recalls = {f"recall@{k}": value for k, value in self.recall.items()}
        return {**recalls, f"MRR@{self.mrr_cutoff}": self.mrr, f"nDCG@{self.mrr_cutoff}": self.ndcg[self.mrr_cutoff]}

    def __str__(self) -> str:
        recalls = "  ".join(f"recall@{k} {value:.3f}" for k, value in self.recall.items())
        gains = "  ".join(f"nDCG@{k} {value:.3f}" for k, value in self.ndcg.items())
        return f"{recalls}  MRR@{self.mrr_cutoff} {self.mrr:.3f}  {gains}  (n={self.queries})"


def recall_at_k(rankings: Rankings, relevant: Relevance, k: int) -> float:
    """Return the mean share of a query's relevant ids that stand among its first `k`.

    With one relevant id per query this is the share of queries whose answer is among the first `k`.

    Args:
        rankings: For every query, the ids found, the best first.
        relevant: For every query, the ids that answer it.
        k: How many results count.

    Raises:
        ConfigurationError: If the lengths differ, there is no query, a query has no relevant id or an id twice in
            its ranking, or `k` is below 1.
    """
    _check(rankings, relevant, k)
    shares = [len(set(row[:k]) & set(ids)) / len(set(ids)) for row, ids in zip(rankings, relevant, strict=True)]
    return float(np.mean(shares))


def mrr_at_k(rankings: Rankings, relevant: Relevance, k: int) -> float:
    """Return the mean of 1 / rank of the first relevant id, 0 where there is none among the first `k`.

    Args:
        rankings: For every query, the ids found, the best first.
        relevant: For every query, the ids that answer it.
        k: How many results count.

    Raises:
        ConfigurationError: As for `recall_at_k`.
    """
    _check(rankings, relevant, k)
    values = [
        next((1 / rank for rank, found in enumerate(row[:k], 1) if found in ids), 0.0)
        for row, ids in zip(rankings, relevant, strict=True)
    ]
    return float(np.mean(values))


def mean_reciprocal_rank(rankings: Rankings, relevant: Relevance) -> float:
    """Return the mean reciprocal rank over the whole rankings, however long they are."""
    longest = max((len(row) for row in rankings), default=0)
    return mrr_at_k(rankings, relevant, max(1, longest))


def ndcg_at_k(rankings: Rankings, relevant: Relevance, k: int) -> float:
    """Return the mean normalised discounted cumulative gain with binary relevance.

    Args:
        rankings: For every query, the ids found, the best first.
        relevant: For every query, the ids that answer it.
        k: How many results count.

    Raises:
        ConfigurationError: As for `recall_at_k`.
    """
    _check(rankings, relevant, k)
    values = []
    for row, ids in zip(rankings, relevant, strict=True):
        gain = sum(1 / math.log2(rank + 1) for rank, found in enumerate(row[:k], 1) if found in ids)
        best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(set(ids))) + 1))
        values.append(gain / best)
    return float(np.mean(values))


def evaluate(rankings: Rankings, relevant: Relevance, ks: Sequence[int] = (1, 3, 10)) -> RetrievalReport:
    """Measure one run.

    Args:
        rankings: For every query, the ids found, the best first.
        relevant: For every query, the ids that answer it.
        ks: The cut-offs of recall and nDCG; reciprocal ranks count up to the largest.

    Returns:
        The figures.

    Raises:
        ConfigurationError: As for `recall_at_k`, or if `ks` is empty.
    """
    if not ks:
        raise ConfigurationError("ks is empty: name at least one cut-off, such as ks=(1, 3, 10)")
    return RetrievalReport(
        queries=len(rankings),
        recall={k: recall_at_k(rankings, relevant, k) for k in ks},
        ndcg={k: ndcg_at_k(rankings, relevant, k) for k in ks},
        mrr=mrr_at_k(rankings, relevant, max(ks)),
        mrr_cutoff=max(ks),
    )


def _check(rankings: Rankings, relevant: Relevance, k: int) -> None:
    if k < 1:
        raise ConfigurationError(f"k is {k}; it must be at least 1")
    if len(rankings) != len(relevant):
        raise ConfigurationError(f"There are {len(rankings)} rankings but {len(relevant)} sets of relevant ids")
    if not rankings:
        raise ConfigurationError("There is no query to evaluate")
    for position, (row, ids) in enumerate(zip(rankings, relevant, strict=True)):
        if not ids:
            raise ConfigurationError(f"Query {position} has no relevant id: leave it out of the evaluation")
        if len(set(row)) != len(row):
            raise ConfigurationError(f"The ranking of query {position} names an id twice")
