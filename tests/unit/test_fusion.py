"""Joining the two lists of a hybrid search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.milvus import FusedHit, Leg
from qwen3_rag.milvus.fusion import check_weights, fuse
from qwen3_rag.types import Hit, Passage


def hits(scores: dict[str, float]) -> list[Hit]:
    return [Hit(Passage(id_, f"text of {id_}"), score) for id_, score in scores.items()]


legs = st.dictionaries(st.sampled_from("abcdefghij"), st.floats(-1e6, 1e6), max_size=10).map(
    lambda found: hits(dict(sorted(found.items(), key=lambda pair: -pair[1])))
)
weights = st.none() | st.tuples(st.floats(0, 10), st.floats(0, 10)).filter(lambda w: sum(w) > 1e-3)


def test_ranks_are_summed():
    fused = fuse(hits({"a": 0.9, "b": 0.8}), hits({"b": 12.0, "c": 3.0}))
    assert [(h.passage.id, h.dense, h.sparse) for h in fused] == [
        ("b", Leg(2, 0.8), Leg(1, 12.0)),
        ("a", Leg(1, 0.9), None),
        ("c", None, Leg(2, 3.0)),
    ]
    assert [h.score for h in fused] == pytest.approx([0.5 * (61 / 62 + 1), 0.5, 0.5 * 61 / 62])


def test_weights_sum_stretched_scores():
    fused = fuse(hits({"a": 0.9, "b": 0.7, "c": 0.5}), hits({"c": 20.0, "a": 10.0}), check_weights((3, 1)))
    assert {h.passage.id: h.score for h in fused} == pytest.approx({"a": 0.75, "b": 0.375, "c": 0.25})
    assert [h.passage.id for h in fused] == ["a", "b", "c"]


def test_equal_scores_keep_the_order_of_the_vectors():
    assert [h.passage.id for h in fuse(hits({"b": 1.0, "a": 0.5}), hits({"a": 2.0, "b": 1.0}))] == ["b", "a"]
    assert [h.passage.id for h in fuse(hits({"b": 1.0}), hits({"a": 2.0}))] == ["b", "a"]


@given(legs, legs, weights)
def test_every_passage_once_best_first_between_0_and_1(dense, sparse, given_weights):
    fused = fuse(dense, sparse, check_weights(given_weights))
    assert sorted(h.passage.id for h in fused) == sorted({h.passage.id for h in (*dense, *sparse)})
    assert [h.score for h in fused] == sorted((h.score for h in fused), reverse=True)
    assert all(isinstance(h, FusedHit) and -1e-9 <= h.score <= 1 + 1e-9 for h in fused)
    for hit in fused:
        for leg, found in ((hit.dense, dense), (hit.sparse, sparse)):
            expected = [Leg(rank, h.score) for rank, h in enumerate(found, 1) if h.passage.id == hit.passage.id]
            assert [leg] == (expected or [None])


@given(legs)
def test_one_leg_alone_keeps_its_order(leg):
    for fused in (fuse(leg, []), fuse([], leg), fuse(leg, leg)):
        assert [h.passage.id for h in fused] == [h.passage.id for h in leg]
    if leg:
        assert fuse(leg, leg)[0].score == 1


@given(legs, legs)
def test_a_weight_of_0_leaves_only_the_other_leg_to_order(dense, sparse):
    fused = fuse(dense, sparse, check_weights((1, 0)))
    found = {h.passage.id: h.score for h in dense}
    scores = [found[h.passage.id] for h in fused if h.passage.id in found]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "wrong", [(1,), (1, 2, 3), (0, 0), (-1, 2), (1, "x"), (float("nan"), 1), (float("inf"), 1), 3, "ab"]
)
def test_weights_that_can_not_work_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="two numbers"):
        check_weights(wrong)


def test_only_the_ratio_of_weights_matters():
    assert check_weights((2, 6)) == check_weights([0.25, 0.75]) == (0.25, 0.75)
    assert check_weights(None) is None
