"""Compiles filters to Milvus boolean expressions that mean the same on Milvus Lite and on servers.

The portable subset, measured on Milvus Lite 3.2 and on Milvus 2.3: no templates, no chained comparisons, no `in` on
JSON keys, only the escapes below, and no `not` around anything that can be unknown (Lite has three-valued logic where
servers have two). So negation is pushed down to the single conditions, where a missing key is said explicitly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from qwen3_rag.errors import FilterError
from qwen3_rag.milvus.filters import OWN_FIELDS, And, Compare, Filter, Not, Or, Scalar
from qwen3_rag.milvus.schema import ID, NO_DOCUMENT, RESERVED, SHADOW, is_plain_key

MAX_DEPTH: Final = 32
"""Nesting that Milvus Lite's recursive parser takes with a wide margin."""

_OPPOSITE: Final[Mapping[str, str]] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_DOCUMENT: Final = "$doc_id"
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


def compile_condition(filter: Filter) -> str | bool:  # noqa: A002
    """As `compile_filter`, but says `True` for a filter that matches everything and `False` for nothing."""
    return _compile(filter, negated=False, depth=0)


def quoted(text: str) -> str:
    """Writes a string literal. Only these escapes mean the same in every version; all else goes in as it is."""
    return f'"{text.translate(_ESCAPES)}"'


def id_in(ids: Iterable[str]) -> str:
    """The condition that the passage's id is one of these."""
    return f"{ID} in [{', '.join(map(quoted, ids))}]"


def _compile(node: Filter, *, negated: bool, depth: int) -> str | bool:
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, Not):
        return _compile(node.operand, negated=not negated, depth=depth + 1)
    if isinstance(node, And | Or):
        parts = [_compile(operand, negated=negated, depth=depth + 1) for operand in node.operands]
        return _all(parts) if isinstance(node, And) is not negated else _any(parts)
    return _COMPILERS[node.op](node, negated)


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


def _path(key: str) -> str:
    """How an expression names the value of a key."""
    if key in OWN_FIELDS:
        return OWN_FIELDS[key]
    if is_plain_key(key):
        return key
    return f"{SHADOW}[{quoted(key)}]" if key in RESERVED else f"$meta[{quoted(key)}]"


def _list_path(key: str) -> str:
    """As `_path`, for the functions that Milvus Lite only takes on a name or on a path that begins with one."""
    return key if is_plain_key(key) else f"{SHADOW}[{quoted(key)}]"


def _literal(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


def _if_there(key: str, condition: str) -> str:
    """Keeps a condition on strings from seeing how a missing document is spelled."""
    return f"({condition} and {_exists(key, there=True)})" if key == _DOCUMENT else condition


def _or_missing(key: str, condition: str) -> str:
    """A negation holds where the key is missing too."""
    missing = _exists(key, there=False)
    return f"({missing} or {condition})" if isinstance(missing, str) else condition


def _equal(node: Compare, negated: bool) -> str | bool:
    if node.op == "!=":
        negated = not negated
    if node.value is None:
        return _exists(node.key, there=negated)
    if node.key == _DOCUMENT and node.value == NO_DOCUMENT:
        return negated  # no document has this id
    if negated and node.key in OWN_FIELDS:
        return f"{_path(node.key)} != {_literal(node.value)}"
    if negated:
        return _or_missing(node.key, f"{_path(node.key)} != {_literal(node.value)}")
    return f"{_path(node.key)} == {_literal(node.value)}"


def _in(node: Compare, negated: bool) -> str | bool:
    if node.op == "not in":
        negated = not negated
    if node.key in OWN_FIELDS and node.value and not {None, NO_DOCUMENT} & set(node.value):
        word = "not in" if negated else "in"
        return f"{_path(node.key)} {word} [{', '.join(map(_literal, node.value))}]"
    parts = [_equal(Compare(node.key, "==", value), negated) for value in node.value]
    return _all(parts) if negated else _any(parts)


def _order(node: Compare, negated: bool) -> str:
    if negated:
        return _or_missing(node.key, f"{_path(node.key)} {_OPPOSITE[node.op]} {_literal(node.value)}")
    return _if_there(node.key, f"{_path(node.key)} {node.op} {_literal(node.value)}")


def _prefix(node: Compare, negated: bool) -> str:
    """A prefix is a range of strings, which needs no pattern and so no escape."""
    path, low, high = _path(node.key), quoted(node.value), _after_prefix(node.value)
    if negated:
        above = f" or {path} >= {quoted(high)}" if high is not None else ""
        return _or_missing(node.key, f"({path} < {low}{above})")
    below = f" and {path} < {quoted(high)}" if high is not None else ""
    return _if_there(node.key, f"({path} >= {low}{below})")


def _after_prefix(prefix: str) -> str | None:
    """The first string, by code point, after all that begin with the prefix; `None` if there is none."""
    stem = prefix.rstrip(chr(_LAST_CHARACTER))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _like(node: Compare, negated: bool) -> str | bool:
    pattern = node.value if node.op == "like" else f"%{node.value}%"
    if not set(pattern) & set("%_"):  # Milvus 2.3 takes an empty pattern for one that matches everything
        return _equal(Compare(node.key, "==", pattern), negated)
    condition = f"{_path(node.key)} like {quoted(re.sub('%+', '%', pattern))}"
    return _or_missing(node.key, f"not ({condition})") if negated else _if_there(node.key, condition)


def _contains(node: Compare, negated: bool) -> str | bool:
    values = [node.value] if node.op == "contains" else node.value
    parts: list[str | bool] = [_contains_one(node.key, value, negated) for value in values]
    return _all(parts) if (node.op == "contains_all") is not negated else _any(parts)


def _contains_one(key: str, value: Scalar, negated: bool) -> str:
    # Milvus Lite parses a string as JSON and looks into that; a string is no list here. And `json_contains` there takes
    # no negative number, which a list of one value may hold.
    path = _list_path(key)
    condition = f'(json_contains_any({path}, [{_literal(value)}]) and not ({path} like "%"))'
    return f"not {condition}" if negated else condition


def _existence(node: Compare, negated: bool) -> str | bool:
    return _exists(node.key, there=(node.op == "exists") is not negated)


def _exists(key: str, *, there: bool) -> str | bool:
    if key == _DOCUMENT:
        return f"{_path(key)} {'!=' if there else '=='} {quoted(NO_DOCUMENT)}"
    if key in OWN_FIELDS:
        return there
    # Without the parentheses servers take all that follows for what has to exist.
    return f"(exists {_path(key)})" if there else f"(not (exists {_path(key)}))"


_COMPILERS: Final[Mapping[str, Callable[[Compare, bool], str | bool]]] = {
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
