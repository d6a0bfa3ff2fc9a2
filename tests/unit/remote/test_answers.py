"""What an answer must be before it is used; wrong ones over the wire are in `test_faults.py`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import RemoteAnswerError
from qwen3_rag.remote.answers import dense_vector, embedding, in_order, logit, probability
from qwen3_rag.remote.api import IndexedRows, Rows, used_tokens
from qwen3_rag.remote.probe import to_logits, to_probabilities


@given(st.permutations(list(range(12))))
def test_any_order_is_put_right(order):
    assert in_order(Rows([(index, index * 10) for index in order]), 12, "S") == [index * 10 for index in range(12)]


@given(st.lists(st.none() | st.booleans() | st.integers(-2, 6) | st.text(max_size=2), min_size=4, max_size=4))
def test_wrong_indices_are_errors(indices):
    right = all(type(i) is int for i in indices) and sorted(indices) == [0, 1, 2, 3]
    if right or indices == [None] * 4:
        assert len(in_order(Rows([(i, 0) for i in indices]), 4, "S")) == 4
    else:
        with pytest.raises(RemoteAnswerError, match="numbered 4 rows"):
            in_order(Rows([(i, 0) for i in indices]), 4, "S")


finite = st.floats(-1e6, 1e6)


@given(
    values=st.lists(finite, min_size=4, max_size=40).filter(lambda v: np.linalg.norm(v[:3]) > 1e-3),
    keep=st.none() | st.just(3),
)
def test_a_vector_is_cut_first_and_then_has_unit_length(values, keep):
    vector = dense_vector(values, "S", keep=keep)
    assert vector.dtype == np.float32
    assert vector.shape == (keep or len(values),)
    assert math.isclose(np.linalg.norm(vector), 1, rel_tol=1e-5)
    expected = np.array(values[:keep]) / np.linalg.norm(values[:keep])
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_a_vector_can_keep_its_length():
    np.testing.assert_array_equal(dense_vector([3, 4], "S", normalize=False), [3, 4])


def test_a_vector_shorter_than_asked_is_an_error():
    with pytest.raises(RemoteAnswerError, match="too short for 3"):
        dense_vector([1.0, 2.0], "S", keep=3)


SPARSE = [{"index": 9, "value": 0.5, "token": "b"}, {"index": 2, "value": 1, "token": "a"}]


def test_dashscope_s_row_holds_one_vector_or_two():
    row = {"embedding": [0.0, 2.0], "sparse_embedding": SPARSE}
    dense, sparse, both = (embedding(row, output, "S") for output in ("dense", "sparse", "dense&sparse"))
    np.testing.assert_array_equal(dense.dense, [0, 1])
    assert dense.sparse is None
    assert sparse.dense is None
    assert both.sparse.as_dict() == sparse.sparse.as_dict() == {2: 1.0, 9: 0.5}
    assert both.sparse.tokens == ("a", "b")
    assert embedding({"sparse_embedding": []}, "sparse", "S").sparse.as_dict() == {}


@pytest.mark.parametrize(
    "sparse",
    [
        None,
        3,
        [3],
        [{"index": 1}],
        [{"index": "x", "value": 1}],
        [{"index": -1, "value": 1}],
        [*SPARSE, SPARSE[0]],
        [{"index": 1, "value": math.nan}],
    ],
)
def test_a_malformed_sparse_vector_is_an_error(sparse):
    with pytest.raises(RemoteAnswerError, match="sparse"):
        embedding({"embedding": [1.0], "sparse_embedding": sparse}, "dense&sparse", "S")


@pytest.mark.parametrize("score", [None, "0.5", True, 1.01, -0.5, math.nan, math.inf])
def test_what_is_no_probability_is_an_error(score):
    with pytest.raises(RemoteAnswerError, match="score"):
        probability(score, "S")


def test_rounding_is_no_error():
    assert [probability(x, "S") for x in (-1e-9, 0, 0.25, 1.0000001)] == [0, 0, 0.25, 1]


@pytest.mark.parametrize("score", [None, "0.5", True, math.nan, math.inf])
def test_what_is_no_logit_is_an_error(score):
    with pytest.raises(RemoteAnswerError, match="finite"):
        logit(score, "S")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_logits_and_probabilities_are_each_other_s_inverse(values):
    logits = to_logits(values)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(to_probabilities(logits), values, atol=1e-6)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, 0),
        ({}, 0),
        ({"total_tokens": 3, "prompt_tokens": 2}, 3),
        ({"prompt_tokens": 2}, 2),
        ({"input_tokens": 4}, 4),
        ({"total_tokens": None}, 0),
        ([], 0),
    ],
)
def test_usage_is_read_in_every_spelling(usage, tokens):
    assert used_tokens(usage) == tokens


def test_usage_is_found_at_depth():
    read = IndexedRows("results", "score", ("meta", "tokens"))
    assert read({"results": [], "meta": {"tokens": {"input_tokens": 7}}}).tokens == 7
    assert read({"results": [], "meta": None}).tokens == 0
    assert read({"results": []}).tokens == 0
