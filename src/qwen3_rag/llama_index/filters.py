"""LlamaIndex metadata filters as this package's portable ones: converted whole, or refused with a typed error."""

from __future__ import annotations

from collections.abc import Mapping

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from qwen3_rag.errors import FilterError
from qwen3_rag.milvus.filters import And, Compare, Filter, Not, Operator, Or

_OPERATORS: Mapping[FilterOperator, Operator] = {
    FilterOperator.EQ: "==",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "not in",
    FilterOperator.ANY: "contains_any",
    FilterOperator.ALL: "contains_all",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.TEXT_MATCH: "substring",
}

_REFUSED = {
    FilterOperator.TEXT_MATCH_INSENSITIVE: "Milvus compares letters as they are: store a lower-case copy of the value "
    "and use TEXT_MATCH on that",
    FilterOperator.IS_EMPTY: "Milvus can't tell an empty list from a full one: use EQ with None for keys that are "
    "missing or None, EQ with '' for empty strings",
}

_DOCUMENT_KEYS = frozenset({"doc_id", "document_id", "ref_doc_id"})
"""Under these, every LlamaIndex store files the id of a node's source document, whatever the metadata say."""


def to_filter(filters: MetadataFilters | None) -> Filter | None:
    """Converts LlamaIndex filters.

    Conditions mean what LlamaIndex's own in-memory store makes of them: `NOT` holds where none of its filters does, and
    no condition is `AND`. The keys `doc_id`, `document_id` and `ref_doc_id` mean the source document. What single
    comparisons mean for missing keys and other types is described in `qwen3_rag.milvus.filters`.

    Args:
        filters: The filters; `None` and an empty list filter nothing.

    Returns:
        The filter, or `None` if there is nothing to filter.

    Raises:
        FilterError: If an operator, a value or a group can't be expressed. Nothing is ever left out.
    """
    if filters is None or not filters.filters:
        return None
    return _group(filters)


def _group(group: MetadataFilters) -> Filter:
    if not group.filters:
        raise FilterError("a nested MetadataFilters has no filters: take it out, or put some in")
    parts = [_group(part) if isinstance(part, MetadataFilters) else _single(part) for part in group.filters]
    match group.condition:
        case None | FilterCondition.AND:
            return parts[0] if len(parts) == 1 else And(*parts)
        case FilterCondition.OR:
            return parts[0] if len(parts) == 1 else Or(*parts)
        case FilterCondition.NOT:
            return Not(parts[0] if len(parts) == 1 else Or(*parts))
    raise FilterError(f"condition {group.condition!r} is none of AND, OR, NOT")


def _single(condition: MetadataFilter) -> Filter:
    operator = _OPERATORS.get(condition.operator)
    if operator is None:
        reason = _REFUSED.get(condition.operator, f"use one of {', '.join(o.name for o in _OPERATORS)}")
        raise FilterError(f"filter on {condition.key!r}: {condition.operator} is not supported. {reason}")
    return Compare("$doc_id" if condition.key in _DOCUMENT_KEYS else condition.key, operator, condition.value)
