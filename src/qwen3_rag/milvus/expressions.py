"""Compiles filters to Milvus boolean expressions that mean the same on Milvus Lite and on servers.

The portable subset, measured on Milvus Lite 3.2 and on Milvus 2.3: no templates, no chained comparisons, no `in` on
JSON keys, only the escapes below, and no `not` around anything that can be unknown (Lite has three-valued logic where
servers have two). So negation is pushed down to the single conditions, where a missing key is said explicitly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from qwen3_rag.errors import FilterError
from qwen3_rag.milvus.columns import ID, OURS, Columns
from qwen3_rag.milvus.filters import And, AnyFilter, Compare, Filter, Not, Or, Scalar, parse_filter
from qwen3_rag.milvus.places import Place, literal, place_of, quoted

MAX_DEPTH: Final = 32
"""Nesting that Milvus Lite's recursive parser takes with a wide margin."""

_OPPOSITE: Final[Mapping[str, str]] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_LAST_CHARACTER: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def compile_filter(filter: Filter) -> str:  # noqa: A002 - the word that every store uses
    """Compiles a filter to a Milvus boolean expression.

    Args:
        filter: The filter.

    Returns:
        The expression; never empty, so it can't be taken for "no filter".

    Raises:
        FilterError: If the filter is nested deeper than `MAX_DEPTH`.
    """
    condition = compile_condition(filter)
    if condition is True:
        return f'{ID} != ""'
    if condition is False:
        return f'{ID} == ""'
    return condition


def compile_condition(filter: Filter, columns: Columns = OURS) -> str | bool:  # noqa: A002
    """As `compile_filter`, but says `True` for a filter that matches everything and `False` for nothing.

    Args:
        filter: The filter.
        columns: Under which names the collection keeps what the filter asks for.
    """
    return _compile(filter, columns, negated=False, depth=0)


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter, compiled for our own layout before anything is opened, so that what has no meaning is refused at once.

    Attributes:
        filter: The filter; `None` is none.
        ours: The expression for a collection of ours; `True` for everything, `False` for nothing.
    """

    filter: Filter | None
    ours: str | bool

    @classmethod
    def of(cls, filter: AnyFilter | None) -> Condition:  # noqa: A002
        """Compiles a filter of either form.

        Raises:
            FilterError: If it can't be expressed.
        """
        parsed = None if filter is None else parse_filter(filter)
        return cls(parsed, True if parsed is None else compile_condition(parsed))

    def on(self, columns: Columns) -> str | bool:
        """The expression for a collection.

        Raises:
            FilterError: If it can't be expressed there.
        """
        return self.ours if self.filter is None or columns == OURS else compile_condition(self.filter, columns)


def id_in(ids: Iterable[str], columns: Columns = OURS) -> str:
    """The condition that the passage's id is one of these."""
    return f"{columns.id} in [{', '.join(map(literal, columns.keys(ids)))}]"


def after_id(id_: str, columns: Columns = OURS) -> str:
    """The condition that the passage's id comes after this one, in the order of the ids; all come after an empty one."""
    if not columns.integer_ids:
        return f"{columns.id} {'>' if id_ else '!='} {quoted(id_)}"
    return f"{columns.id} > {id_}" if id_ else f"({columns.id} < 0 or {columns.id} >= 0)"


def _compile(node: Filter, columns: Columns, *, negated: bool, depth: int) -> str | bool:
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, Not):
        return _compile(node.operand, columns, negated=not negated, depth=depth + 1)
    if isinstance(node, And | Or):
        parts = [_compile(operand, columns, negated=negated, depth=depth + 1) for operand in node.operands]
        return _all(parts) if isinstance(node, And) is not negated else _any(parts)
    return _COMPILERS[node.op](node, place_of(node.key, columns), negated)


def _all(parts: list[str | bool]) -> str | bool:
    if any(part is False for part in parts):
        return False
    return _joined(" and ", parts) or True


def _any(parts: list[str | bool]) -> str | bool:
    if any(part is True for part in parts):
        return True
    return _joined(" or ", parts) or False


def _joined(word: str, parts: list[str | bool]) -> str:
    texts = list(dict.fromkeys(part for part in parts if isinstance(part, str)))
    return texts[0] if len(texts) == 1 else f"({word.join(texts)})" if texts else ""


def _or_missing(place: Place, condition: str | bool) -> str | bool:
    """A negation holds where the key is missing too."""
    return _any([place.missing, condition])


def _if_there(place: Place, condition: str | bool) -> str | bool:
    """Keeps a condition on strings from seeing how a missing document is spelled."""
    return condition if place.spelled is None else _all([condition, place.there])


def _equal(node: Compare, place: Place, negated: bool) -> str | bool:
    return _equal_to(place, node.value, negated is not (node.op == "!="))


def _equal_to(place: Place, value: Scalar | None, negated: bool) -> str | bool:
    if value is None:
        return place.there if negated else place.missing
    written = place.equal(value)
    if written is None:
        return negated
    if not negated:
        return f"{place.path} == {written}"
    unequal = f"{place.path} != {written}"
    return unequal if place.spelled is not None else _or_missing(place, unequal)


def _in(node: Compare, place: Place, negated: bool) -> str | bool:
    negated = negated is not (node.op == "not in")
    apart = [value for value in node.value if value is None or place.kind == "json"]
    parts = [_equal_to(place, value, negated) for value in apart]
    written = [place.equal(value) for value in node.value if value not in apart]
    possible = [one for one in written if one is not None]
    if possible:
        condition = f"{place.path} {'not in' if negated else 'in'} [{', '.join(possible)}]"
        parts.append(_or_missing(place, condition) if negated and place.spelled is None else condition)
    return _all(parts) if negated else _any(parts)


def _order(node: Compare, place: Place, negated: bool) -> str | bool:
    if not place.takes(node.value):
        return negated and place.missing
    if negated:
        return _or_missing(place, place.ordered(_OPPOSITE[node.op], node.value))
    return _if_there(place, place.ordered(node.op, node.value))


def _prefix(node: Compare, place: Place, negated: bool) -> str | bool:
    """A prefix is a range of strings, which needs no pattern and so no escape."""
    if not place.takes(node.value):
        return negated and place.missing
    place.check_order()
    path, low, high = place.path, quoted(node.value), _after_prefix(node.value)
    if negated:
        above = f" or {path} >= {quoted(high)}" if high is not None else ""
        return _or_missing(place, f"({path} < {low}{above})")
    below = f" and {path} < {quoted(high)}" if high is not None else ""
    return _if_there(place, f"({path} >= {low}{below})")


def _after_prefix(prefix: str) -> str | None:
    """The first string, by code point, after all that begin with the prefix; `None` if there is none."""
    stem = prefix.rstrip(chr(_LAST_CHARACTER))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _like(node: Compare, place: Place, negated: bool) -> str | bool:
    pattern = node.value if node.op == "like" else f"%{node.value}%"
    if not place.takes(pattern):
        return negated
    if not set(pattern) & set("%_"):  # Milvus 2.3 takes an empty pattern for one that matches everything
        return _equal_to(place, pattern, negated)
    place.check_order()
    condition = f"{place.path} like {quoted(re.sub('%+', '%', pattern))}"
    return _or_missing(place, f"not ({condition})") if negated else _if_there(place, condition)


def _contains(node: Compare, place: Place, negated: bool) -> str | bool:
    values = [node.value] if node.op == "contains" else node.value
    parts = [place.contains(value) for value in values]
    if negated:
        parts = [_not_contains(place, part) for part in parts]
    return _all(parts) if (node.op == "contains_all") is not negated else _any(parts)


def _not_contains(place: Place, part: str | bool) -> str | bool:
    if isinstance(part, bool):
        return not part
    # A missing key in JSON holds no value, so the condition is false there and its opposite true.
    return f"not {part}" if place.kind == "json" else _or_missing(place, f"not {part}")


def _existence(node: Compare, place: Place, negated: bool) -> str | bool:
    return place.there if (node.op == "exists") is not negated else place.missing


_COMPILERS: Final[Mapping[str, Callable[[Compare, Place, bool], str | bool]]] = {
    "==": _equal,
    "!=": _equal,
    "in": _in,
    "not in": _in,
    **dict.fromkeys(_OPPOSITE, _order),
    "prefix": _prefix,
    "like": _like,
    "substring": _like,
    "contains": _contains,
    "contains_any": _contains,
    "contains_all": _contains,
    "exists": _existence,
    "missing": _existence,
}
