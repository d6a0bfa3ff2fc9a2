"""LlamaIndex filters as portable ones: whole, or refused."""

from __future__ import annotations

import pytest
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from qwen3_rag.errors import FilterError
from qwen3_rag.llama_index.filters import to_filter
from qwen3_rag.milvus.filters import And, Compare, Not, Or

A, B = Compare("a", "==", 1), Compare("b", "==", 2)


def one(key, value, operator=FilterOperator.EQ):
    return MetadataFilter(key=key, value=value, operator=operator)


def group(*filters, condition=FilterCondition.AND):
    return MetadataFilters(filters=list(filters), condition=condition)


FA, FB = one("a", 1), one("b", 2)


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        (FilterOperator.EQ, "x", Compare("k", "==", "x")),
        (FilterOperator.NE, 1.5, Compare("k", "!=", 1.5)),
        (FilterOperator.GT, 1, Compare("k", ">", 1)),
        (FilterOperator.GTE, 1, Compare("k", ">=", 1)),
        (FilterOperator.LT, 1, Compare("k", "<", 1)),
        (FilterOperator.LTE, 1, Compare("k", "<=", 1)),
        (FilterOperator.IN, ["x", "y"], Compare("k", "in", ("x", "y"))),
        (FilterOperator.NIN, [1, 2], Compare("k", "not in", (1, 2))),
        (FilterOperator.ANY, ["x"], Compare("k", "contains_any", ("x",))),
        (FilterOperator.ALL, ["x"], Compare("k", "contains_all", ("x",))),
        (FilterOperator.CONTAINS, "x", Compare("k", "contains", "x")),
        (FilterOperator.TEXT_MATCH, "x", Compare("k", "substring", "x")),
        (FilterOperator.TEXT_MATCH_INSENSITIVE, "x", None),
        (FilterOperator.IS_EMPTY, None, None),
    ],
)
def test_every_operator_is_converted_or_refused(operator, value, expected):
    filters = group(one("k", value, operator))
    if expected is None:
        with pytest.raises(FilterError, match=rf"'k'.*{operator.name}.*use"):
            to_filter(filters)
    else:
        assert to_filter(filters) == expected


def test_no_operator_was_forgotten():
    known = test_every_operator_is_converted_or_refused.pytestmark[0].args[1]
    assert {operator for operator, _, _ in known} == set(FilterOperator)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (None, None),
        (group(), None),
        (group(condition=FilterCondition.NOT), None),
        (group(FA), A),
        (group(FA, FB), And(A, B)),
        (group(FA, FB, condition=None), And(A, B)),
        (group(FA, FB, condition=FilterCondition.OR), Or(A, B)),
        (group(FA, FB, condition=FilterCondition.NOT), Not(Or(A, B))),
        (group(FA, group(FA, FB, condition=FilterCondition.OR)), And(A, Or(A, B))),
        (group(group(FA, FB), group(FB, condition=FilterCondition.NOT), condition="or"), Or(And(A, B), Not(B))),
    ],
)
def test_conditions(filters, expected):
    assert to_filter(filters) == expected


def test_not_with_a_single_filter():
    """LlamaIndex's Milvus store ignores `NOT` around one filter and returns exactly what was to be excluded."""
    assert to_filter(group(FA, condition=FilterCondition.NOT)) == Not(A)


def test_value_none():
    """LlamaIndex's Milvus store drops a filter with the value `None` and returns everything."""
    assert to_filter(group(one("k", None))) == Compare("k", "==", None)
    assert to_filter(group(one("k", None, FilterOperator.NE))) == Compare("k", "!=", None)
    for operator in set(FilterOperator) - {FilterOperator.EQ, FilterOperator.NE}:
        with pytest.raises(FilterError):
            to_filter(group(one("k", None, operator)))


def test_an_empty_group_inside_is_refused():
    for condition in FilterCondition:
        with pytest.raises(FilterError, match="no filters"):
            to_filter(group(FA, group(), condition=condition))


@pytest.mark.parametrize("key", ["doc_id", "document_id", "ref_doc_id"])
def test_the_source_document(key):
    assert to_filter(group(one(key, "d"))) == Compare("$doc_id", "==", "d")


@pytest.mark.parametrize("value", ["50%", "a_b", "a\\b"])
def test_wildcards_in_a_text_match_are_refused(value):
    with pytest.raises(FilterError, match="substring"):
        to_filter(group(one("k", value, FilterOperator.TEXT_MATCH)))
