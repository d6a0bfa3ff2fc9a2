r"""Filters on metadata: what can be asked, and what it means. `expressions.py` turns them into Milvus expressions.

One meaning everywhere (Milvus Lite, Milvus servers, Zilliz Cloud):

* A **key** always names a metadata key, literally: `"a.b"` is the key `a.b`, not a path, and `"text"` is the metadata
  key `text`. The passage's own fields are spelled `$id`, `$text` and `$doc_id` and compare with strings only.
* A key whose value is `None` counts as **missing**; `== None` asks for that, `!= None` for the opposite.
* `==` and `in` want the key to be there with an equal value: same kind (string or number) and equal, `1 == 1.0`.
  `!=` and `not in` are the exact opposites, so they match passages **without the key** too.
* `>`, `>=`, `<`, `<=` and `prefix` want a value of the same kind: numbers by size, strings by code point. Their
  negation matches passages without the key and values that lie on the other side; a value of **another kind** (a
  string where a number was asked, a list, a dict) matches neither.
* `like` matches strings as a whole: `%` stands for any run of characters, `_` for exactly one. There is no portable
  escape, so a backslash in a pattern is refused. `substring` looks for a literal and refuses `%`, `_` and `\`;
  `prefix` takes any string. Servers before Milvus 2.4 know only patterns that end with their one `%`.
* `contains`, `contains_any` and `contains_all` look into lists; a string is no list, even if it reads like JSON.
* `And()` matches everything and `Or()` nothing, as `all([])` and `any([])`; `in []` matches nothing.
* Booleans are values of their own. Milvus Lite alone takes `True` for `1` and `False` for `0` (as Python does), so
  don't keep booleans and numbers under one key.
* In a collection of another tool a key may be a column with a type. It means the same: what its type can't hold, no value
  there equals, and a key that is no column is missing everywhere. Compared is what comes back, which for 0.1 in a column of
  32-bit numbers is 0.10000000149. `$doc_id` is missing; integer ids compare by `==` and `in`, as strings.

What can't be expressed is refused with `FilterError` before anything is sent; no condition is ever dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from qwen3_rag.errors import FilterError

Operator: TypeAlias = Literal[
    "==",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    "in",
    "not in",
    "contains",
    "contains_any",
    "contains_all",
    "like",
    "prefix",
    "substring",
    "exists",
    "missing",
]
Scalar: TypeAlias = str | int | float | bool

OWN_FIELDS: Final = ("$id", "$text", "$doc_id")
"""How a filter spells the passage's own fields."""

_OPERATORS: Final = frozenset(get_args(Operator))
_TEXT_OPERATORS: Final = frozenset({"like", "prefix", "substring"})
_LIST_OPERATORS: Final = frozenset({"in", "not in", "contains_any", "contains_all"})
_OWN_OPERATORS: Final = _OPERATORS - {"contains", "contains_any", "contains_all"}
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition on one key.

    Attributes:
        key: A metadata key, or `$id`, `$text` or `$doc_id`.
        op: The comparison; see the module's documentation for the meaning of each.
        value: A string, number or boolean; a sequence of them for `in`, `not in`, `contains_any` and `contains_all`
            (kept as a tuple); nothing for `exists` and `missing`.

    Raises:
        FilterError: If the key, the operator or the value can't be expressed.
    """

    key: str
    op: Operator
    value: Any = None

    def __post_init__(self) -> None:
        _check_key(self.key)
        if self.op not in _OPERATORS:
            raise FilterError(f"filter on {self.key!r}: unknown operator {self.op!r}, use one of {sorted(_OPERATORS)}")
        if self.key in OWN_FIELDS and self.op not in _OWN_OPERATORS:
            raise FilterError(f"filter on {self.key!r}: {self.op!r} looks into lists, and this field is a string")
        object.__setattr__(self, "value", self._checked_value())

    def _checked_value(self) -> Any:
        if self.op in ("exists", "missing"):
            if self.value is not None:
                raise FilterError(f"filter on {self.key!r}: {self.op!r} takes no value, got {self.value!r}")
            return None
        if self.op in _LIST_OPERATORS:
            return self._checked_values()
        if self.value is None and self.op in ("==", "!="):
            return None
        value = self._checked_scalar(self.value)
        if self.op in _TEXT_OPERATORS:
            self._check_pattern(value)
        return value

    def _checked_values(self) -> tuple[Scalar | None, ...]:
        if isinstance(self.value, str | bytes | Mapping) or not isinstance(self.value, Sequence | Set):
            raise FilterError(f"filter on {self.key!r}: {self.op!r} takes a list of values, got {self.value!r}")
        if self.op == "contains_all" and not self.value:
            raise FilterError(f"filter on {self.key!r}: 'contains_all' needs at least one value")
        null = self.op in ("in", "not in")
        return tuple(None if item is None and null else self._checked_scalar(item) for item in self.value)

    def _checked_scalar(self, value: Any) -> Scalar:
        """Returns a plain `str`, `bool`, `int` or `float`, so that no subclass prints itself in its own way."""
        if self.key in OWN_FIELDS and not isinstance(value, str):
            raise FilterError(f"filter on {self.key!r}: the field is a string, got {value!r}")
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _plain_string(value, f"filter on {self.key!r}")
        if isinstance(value, int):
            if abs(value) > _INT64_MAX:
                raise FilterError(
                    f"filter on {self.key!r}: {value} does not fit 64 bits, store and compare it as a string"
                )
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise FilterError(f"filter on {self.key!r}: {value!r} compares with nothing, use a finite number")
            return float(value)
        raise FilterError(
            f"filter on {self.key!r}: {value!r} ({type(value).__name__}) can't be compared; "
            "use a string, a number or a boolean (dates as ISO strings or timestamps)"
        )

    def _check_pattern(self, value: Scalar) -> None:
        if not isinstance(value, str):
            raise FilterError(f"filter on {self.key!r}: {self.op!r} takes a string, got {value!r}")
        refused = {"like": "\\", "substring": "%_\\"}.get(self.op, "")
        found = sorted(set(value) & set(refused))
        if found:
            raise FilterError(
                f"filter on {self.key!r}: {self.op!r} can't express {' '.join(found)} in {value!r}, because Milvus has "
                "no portable escape for it; use 'prefix' or '=='"
            )


@dataclass(frozen=True, slots=True, init=False)
class And:
    """All of the operands; without any, everything."""

    operands: tuple[Filter, ...]

    def __init__(self, *operands: Filter) -> None:
        object.__setattr__(self, "operands", _checked_operands(operands))


@dataclass(frozen=True, slots=True, init=False)
class Or:
    """At least one of the operands; without any, nothing."""

    operands: tuple[Filter, ...]

    def __init__(self, *operands: Filter) -> None:
        object.__setattr__(self, "operands", _checked_operands(operands))


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of the operand; see the module's documentation for missing keys and other kinds."""

    operand: Filter

    def __post_init__(self) -> None:
        _checked_operands((self.operand,))


Filter: TypeAlias = Compare | And | Or | Not
"""A condition on the metadata of a passage."""
AnyFilter: TypeAlias = Filter | Mapping[str, Any]
"""A filter, or what `parse_filter` reads."""

_COMPARISONS: Final[Mapping[str, Operator]] = {
    "$eq": "==",
    "$ne": "!=",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
    "$in": "in",
    "$nin": "not in",
    "$contains": "contains",
    "$contains_any": "contains_any",
    "$contains_all": "contains_all",
    "$like": "like",
    "$prefix": "prefix",
    "$substring": "substring",
}


def parse_filter(source: Mapping[str, Any] | Filter) -> Filter:
    """Reads a filter from the mapping notation that vector stores share.

    `{"lang": "en", "year": {"$gte": 2020, "$lt": 2024}}` joins its conditions with *and*. A value stands for `$eq`;
    the operators are `$eq $ne $gt $gte $lt $lte $in $nin $contains $contains_any $contains_all $like $prefix
    $substring`, `$exists` with `True` or `False`, and `$not` with a mapping of operators. On the upper level `$and` and
    `$or` take lists of filters, `$not` one filter, and `$id`, `$text` and `$doc_id` name the passage's own fields.

    Args:
        source: The mapping, or a filter, which is returned as it is.

    Returns:
        The filter; `And()` for an empty mapping.

    Raises:
        FilterError: If there is anything in it that has no meaning. Nothing is ever left out.
    """
    if isinstance(source, Compare | And | Or | Not):
        return source
    if not isinstance(source, Mapping):
        raise FilterError(
            f"a filter is a mapping or made of Compare, And, Or and Not, got {source!r}; Milvus expressions as strings "
            "are not accepted, because they can't be checked"
        )
    return _all_of([_parse_entry(key, value) for key, value in source.items()])


def _parse_entry(key: Any, value: Any) -> Filter:
    if key in ("$and", "$or"):
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise FilterError(f"{key!r} takes a list of filters, got {value!r}")
        operands = [parse_filter(item) for item in value]
        return And(*operands) if key == "$and" else Or(*operands)
    if key == "$not":
        return Not(parse_filter(value))
    _check_key(key)
    if isinstance(value, Mapping):
        return _parse_operators(key, value)
    if isinstance(value, list | tuple | Set):
        raise FilterError(f"filter on {key!r}: {value!r} is a list; use {{'$in': […]}} or {{'$contains_all': […]}}")
    return Compare(key, "==", value)


def _parse_operators(key: str, operators: Mapping[str, Any]) -> Filter:
    if not operators:
        raise FilterError(f"filter on {key!r}: an empty mapping says nothing; use {{'$eq': …}} or leave the key out")
    conditions: list[Filter] = []
    for name, value in operators.items():
        if name == "$exists":
            if not isinstance(value, bool):
                raise FilterError(f"filter on {key!r}: '$exists' takes True or False, got {value!r}")
            conditions.append(Compare(key, "exists" if value else "missing"))
        elif name == "$not":
            conditions.append(
                Not(_parse_operators(key, value) if isinstance(value, Mapping) else Compare(key, "==", value))
            )
        elif name in _COMPARISONS:
            conditions.append(Compare(key, _COMPARISONS[name], value))
        else:
            known = ", ".join([*_COMPARISONS, "$exists", "$not"])
            raise FilterError(f"filter on {key!r}: unknown operator {name!r}, use one of {known}")
    return _all_of(conditions)


def _all_of(conditions: list[Filter]) -> Filter:
    return conditions[0] if len(conditions) == 1 else And(*conditions)


def _checked_operands(operands: tuple[Filter, ...]) -> tuple[Filter, ...]:
    for operand in operands:
        if not isinstance(operand, Compare | And | Or | Not):
            raise FilterError(f"And, Or and Not take Compare, And, Or and Not, got {operand!r}")
    return operands


def _check_key(key: Any) -> None:
    if not isinstance(key, str) or not key:
        raise FilterError(f"a filter key is a non-empty string, got {key!r}")
    if key.startswith("$") and key not in OWN_FIELDS:
        raise FilterError(
            f"unknown filter key {key!r}: keys that begin with '$' are operators ($and, $or, $not) or fields of the "
            f"passage itself ({', '.join(OWN_FIELDS)})"
        )
    _plain_string(key, "filter key")


def _plain_string(value: str, what: str) -> str:
    plain = "".join(value)  # a subclass (an enum, say) becomes a plain str with the same characters
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"{what}: {value!r} is not valid Unicode ({error.reason})") from error
    return plain
