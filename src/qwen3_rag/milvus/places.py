"""Where the value of a filter's key lies in a collection, and how an expression of Milvus names and compares it.

In our collections a key is one of the passage's own columns or lies in the dynamic field. In those of other tools it may
be a column of a type of its own, lie inside a JSON column, or be no column at all, so that every row lacks it. What can't
hold in such a place (a string in a column of numbers, say) is decided here, since Milvus refuses the comparison; so all
places give a filter the one meaning that `filters.py` states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from qwen3_rag.errors import FilterError
from qwen3_rag.milvus.columns import (
    NO_DOCUMENT,
    OURS,
    RESERVED,
    SHADOW,
    Column,
    Columns,
    Kind,
    is_integer_id,
    is_name,
    is_plain_key,
)
from qwen3_rag.milvus.filters import OWN_FIELDS, Scalar

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_INT64: Final = range(-(2**63), 2**63)
_NUMBERS: Final = ("integer", "single", "double")
_BELOW: Final[Mapping[str, str]] = {">": ">", ">=": ">", "<": "<=", "<=": "<="}
_ABOVE: Final[Mapping[str, str]] = {">": ">=", ">=": ">=", "<": "<", "<=": "<"}
"""What to ask of the next number that a column can hold, below and above one that it can't."""

PlaceKind: TypeAlias = Kind | Literal["json", "id", "nothing"]


def quoted(text: str) -> str:
    """Writes a string literal. Only these escapes mean the same in every version; all else goes in as it is."""
    return f'"{text.translate(_ESCAPES)}"'


def literal(value: Scalar) -> str:
    """Writes a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the value of a key lies.

    Attributes:
        key: The key, for messages.
        path: How an expression names the value.
        there: The condition that there is one; `True` if there always is, `False` if there never is.
        missing: The opposite.
        kind: What the value is: that of a column; `json`, which is anything; `id`, an integer that filters take for a
            string; or `nothing`.
        list_path: As `path`, for the functions that look into lists; `None` if no expression reaches a list there.
        element: What the lists of a column hold.
        spelled: The string that stands for "there is none".
    """

    key: str
    path: str
    there: str | bool
    missing: str | bool
    kind: PlaceKind
    list_path: str | None = None
    element: Kind = "other"
    spelled: str | None = None

    def takes(self, value: Scalar) -> bool:
        """Whether a value of this kind (string, number or boolean) may lie here."""
        return _takes(self.kind, value)

    def equal(self, value: Scalar) -> str | None:
        """The literal that equals a value here; `None` if nothing here can equal it."""
        return None if value == self.spelled else _equal(self.kind, value)

    def ordered(self, operator: str, value: Scalar) -> str | bool:
        """The condition that the value here is larger or smaller than another one of its kind.

        Raises:
            FilterError: If Milvus can't compare them.
        """
        if isinstance(value, str) or self.kind not in _NUMBERS:
            self.check_order()
            return f"{self.path} {operator} {literal(value)}"
        nearest = _nearest(self.kind, value)
        if nearest is None:
            return self.there if (value < 0) is (operator[0] == ">") else False
        if nearest != value:
            operator = (_BELOW if nearest < value else _ABOVE)[operator]
        return f"{self.path} {operator} {literal(nearest)}"

    def check_order(self) -> None:
        """Refuses what needs the order or the characters of values that have none.

        Raises:
            FilterError: If there is no such thing here.
        """
        if self.kind in ("id", "boolean"):
            what = "integers, which have no order as strings" if self.kind == "id" else "booleans, which have no order"
            raise FilterError(f"filter on {self.key!r}: the collection keeps {what}; use '==' or 'in'")

    def contains(self, value: Scalar) -> str | bool:
        """The condition that the value here is a list with this value in it.

        Raises:
            FilterError: If Milvus can't look into lists there.
        """
        if self.kind == "list":
            written = _equal(self.element, value)
            return False if written is None else f"array_contains_any({self.path}, [{written}])"
        if self.kind != "json":
            return False
        if self.list_path is None:
            raise FilterError(
                f"filter on {self.key!r}: Milvus Lite can't look into lists under a key that is no identifier, in a "
                "collection of another tool"
            )
        # Milvus Lite parses a string as JSON and looks into that; a string is no list here. And `json_contains` there
        # takes no negative number, which a list of one value may hold.
        return f'(json_contains_any({self.list_path}, [{literal(value)}]) and not ({self.list_path} like "%"))'


def place_of(key: str, columns: Columns = OURS) -> Place:
    """Finds where the value of a key lies.

    Raises:
        FilterError: If no expression can compare it.
    """
    if key in OWN_FIELDS:
        return _own(key, columns)
    column = next((column for column in columns.metadata if column.name == key), None)
    if column is not None:
        return _in_column(column)
    path, list_path = _paths(key, columns)
    return _nowhere(key) if path is None else _in_json(key, path, list_path)


def _paths(key: str, columns: Columns) -> tuple[str | None, str | None]:
    """How an expression names what JSON holds, and a list there, which Milvus Lite only takes on what begins with a name."""
    if columns.json is not None:
        path = f"{columns.json}[{quoted(key)}]"
        return path, path
    if not columns.dynamic:
        return None, None
    shadow = f"{SHADOW}[{quoted(key)}]" if columns.ours else None
    if columns.ours and key in RESERVED:
        return shadow, shadow
    plain = is_plain_key(key) if columns.ours else is_name(key) and key not in columns.structure
    return (key, key) if plain else (f"$meta[{quoted(key)}]", shadow)


def _own(key: str, columns: Columns) -> Place:
    if key == "$id":
        return Place(key, columns.id, there=True, missing=False, kind="id" if columns.integer_ids else "string")
    if key == "$text":
        return Place(key, columns.text, there=True, missing=False, kind="string")
    if columns.doc_id is None:
        return _nowhere(key)
    path, none = columns.doc_id, quoted(NO_DOCUMENT)
    return Place(key, path, f"{path} != {none}", f"{path} == {none}", "string", spelled=NO_DOCUMENT)


def _in_column(column: Column) -> Place:
    name = column.name
    if column.kind == "other" or not _is_field_name(name):
        what = "type has no comparison" if column.kind == "other" else "name can't be said in an expression"
        raise FilterError(
            f"filter on {name!r}: the collection keeps it in a column whose {what}; filter on another key"
        )
    there, missing = (f"({name} is not null)", f"({name} is null)") if column.nullable else (True, False)
    return Place(name, name, there, missing, column.kind, element=column.element)


def _in_json(key: str, path: str, list_path: str | None) -> Place:
    # Without the parentheses servers take all that follows for what has to exist.
    return Place(key, path, f"(exists {path})", f"(not (exists {path}))", "json", list_path)


def _nowhere(key: str) -> Place:
    return Place(key, "", there=False, missing=True, kind="nothing")


def _is_field_name(name: str) -> bool:
    """Milvus Lite takes letters of every script in the name of a column, and in expressions too."""
    return is_name(name) or (name.isidentifier() and not name.isascii())


def _takes(kind: PlaceKind, value: Scalar) -> bool:
    if kind == "json":
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in (("string", "id") if isinstance(value, str) else _NUMBERS)


def _equal(kind: PlaceKind, value: Scalar) -> str | None:
    """The literal that equals a value of a kind, if one of that kind can equal it."""
    if not _takes(kind, value):
        return None
    if kind == "id":
        return str(value) if is_integer_id(str(value)) else None
    if kind in _NUMBERS and not isinstance(value, str):
        nearest = _nearest(kind, value)
        return literal(nearest) if nearest is not None and nearest == value else None
    return literal(value)


def _nearest(kind: PlaceKind, value: float) -> float | None:
    """The nearest number, or the next one below, that a column can hold; `None` if it lies beyond all of those."""
    if kind == "integer":
        whole = math.floor(value)
        return whole if whole in _INT64 else None
    if kind == "double":
        return float(value)
    with np.errstate(over="ignore"):
        nearest = float(np.float32(value))
    return nearest if math.isfinite(nearest) else None
