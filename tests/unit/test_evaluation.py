from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.evaluation import (
    evaluate,
    mean_reciprocal_rank,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)

RANKINGS = [["a", "b", "c", "d"], ["c", "a", "b", "d"], ["d", "c", "b", "a"]]
RELEVANT = [{"a"}, {"b", "d"}, {"x"}]


@pytest.mark.parametrize(
    ("k", "recall", "mrr"),
    [(1, 1 / 3, 1 / 3), (3, (1 + 0.5) / 3, (1 + 1 / 3) / 3), (4, 2 / 3, (1 + 1 / 3) / 3)],
)
def test_recall_and_mrr_by_hand(k: int, recall: float, mrr: float) -> None:
    assert recall_at_k(RANKINGS, RELEVANT, k) == pytest.approx(recall)
    assert mrr_at_k(RANKINGS, RELEVANT, k) == pytest.approx(mrr)


def test_ndcg_by_hand() -> None:
    second = (1 / math.log2(4) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert ndcg_at_k(RANKINGS, RELEVANT, 4) == pytest.approx((1 + second) / 3)
    assert ndcg_at_k([["x", "a"]], [["a", "a"]], 2) == pytest.approx(1 / math.log2(3))


def test_ndcg_counts_only_as_many_relevant_ids_as_fit() -> None:
    assert ndcg_at_k([["a", "b"]], [{"a", "b", "c"}], 1) == 1.0


def test_mean_reciprocal_rank_looks_at_everything() -> None:
    assert mean_reciprocal_rank(RANKINGS, [{"d"}, {"d"}, {"a"}]) == pytest.approx(0.25)
    assert mean_reciprocal_rank([[]], [{"a"}]) == 0.0


def test_report_has_all_cutoffs_and_reads_well() -> None:
    report = evaluate(RANKINGS, RELEVANT, ks=(1, 4))
    assert dict(report.recall) == {1: pytest.approx(1 / 3), 4: pytest.approx(2 / 3)}
    assert report.mrr == pytest.approx(4 / 9)
    assert report.mrr_cutoff == 4
    assert report.queries == 3
    assert str(report).startswith("recall@1 0.333  recall@4 0.667  MRR@4 0.444  nDCG@1 0.333")


@pytest.mark.parametrize(
    ("rankings", "relevant", "ks", "message"),
    [
        ([["a"]], [{"a"}], (0,), "k is 0"),
        ([["a"]], [], (1,), "1 rankings but 0"),
        ([], [], (1,), "no query"),
        ([["a"]], [set()], (1,), "Query 0 has no relevant id"),
        ([["a", "a"]], [{"a"}], (1,), "query 0 names an id twice"),
        ([["a"]], [{"a"}], (), "ks is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(rankings: list, relevant: list, ks: tuple, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        evaluate(rankings, relevant, ks)


@given(
    ranking=st.permutations(list(range(8))),
    relevant=st.sets(st.integers(0, 7), min_size=1),
    k=st.integers(1, 8),
)
def test_figures_are_shares_and_grow_with_k(ranking: list[int], relevant: set[int], k: int) -> None:
    args = ([ranking], [relevant])
    for figure in (recall_at_k, mrr_at_k, ndcg_at_k):
        assert 0.0 <= figure(*args, k) <= 1.0
    assert recall_at_k(*args, k) <= recall_at_k(*args, k + 1)
    assert mrr_at_k(*args, k) <= mrr_at_k(*args, k + 1)
    assert recall_at_k(*args, 8) == 1.0
    ideal = sorted(relevant) + [i for i in ranking if i not in relevant]
    assert ndcg_at_k([ideal], [relevant], k) == pytest.approx(1.0)
