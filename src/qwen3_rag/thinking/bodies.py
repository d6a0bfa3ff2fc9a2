"""Merges request bodies: the user's own `extra_body` is merged deeply over ours, and wins.

It wins over what it excludes too. A server refuses two spellings of how much to think in one request, so where the user
gives one, all of ours go.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from qwen3_rag.errors import InputError
from qwen3_rag.texts import check_unicode

Path: TypeAlias = tuple[str, ...]

_TEMPLATE: Final = "chat_template_kwargs"
_SWITCHES: Final[tuple[Path, ...]] = (
    ("enable_thinking",),
    (_TEMPLATE, "enable_thinking"),
    (_TEMPLATE, "thinking"),
    ("thinking", "type"),
    ("reasoning", "enabled"),
)
_EFFORTS: Final[tuple[Path, ...]] = (("reasoning_effort",), ("reasoning", "effort"), (_TEMPLATE, "reasoning_effort"))
_BUDGETS: Final[tuple[Path, ...]] = (
    ("thinking_budget",),
    ("thinking_token_budget",),
    ("thinking_budget_tokens",),
    ("reasoning_budget_tokens",),
    ("reasoning", "max_tokens"),
    ("thinking", "budget_tokens"),
    ("custom_params", "thinking_budget"),
    (_TEMPLATE, "thinking_budget"),
)
_WORDS: Final = {"enabled": True, "disabled": False}


def merge(ours: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Merges two bodies deeply; lists and plain values are replaced, not joined.

    Args:
        ours: What we would send.
        users: What wins.

    Returns:
        A body of its own: no part of it is shared with the arguments.
    """
    merged = dict(copy.deepcopy(dict(ours)))
    for key, value in users.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def check_json(value: Any, where: str) -> None:
    """Checks that a part of a request can be written as JSON in UTF-8.

    Pydantic objects are left to the `openai` package, which writes them.

    Args:
        value: The part.
        where: How messages call it.

    Raises:
        InputError: If it holds half of a surrogate pair, or something that JSON does not have.
    """
    if isinstance(value, str):
        check_unicode(value, where)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            check_unicode(str(name), f"a name in {where}")
            check_json(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            check_json(item, f"{where}[{place}]")
    elif not (
        value is None or isinstance(value, BaseModel) or (isinstance(value, int | float) and math.isfinite(value))
    ):
        raise InputError(
            f"{where} is {value!r:.80}, which JSON does not have: give texts, finite ints and floats, lists and dicts"
        )


def json_text(value: Any, where: str) -> str:
    """Writes a value as JSON.

    Args:
        value: The value.
        where: How messages call it.

    Raises:
        InputError: If it holds something that JSON does not have.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise InputError(f"{where} can't be written as JSON: {error}") from error


def overlay(ours: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Merges the user's body over ours, without those of our options that the user's exclude."""
    amounts = (*_EFFORTS, *_BUDGETS)
    if read_amount(users) is not None:
        ours = without(ours, amounts)
    if next(_values(users, _SWITCHES), None) is not None:
        ours = without(ours, _SWITCHES)
    return merge(ours, users)


def without_thinking(body: Mapping[str, Any]) -> dict[str, Any]:
    """Copies a body without what it says about thinking, for a call that must not think."""
    return without(body, (*_SWITCHES, *_EFFORTS, *_BUDGETS))


def read_switch(body: Mapping[str, Any]) -> bool | None:
    """Returns whether a body switches thinking on or off, in any server's spelling; an effort is a switch too."""
    switches = (_WORDS.get(value) if isinstance(value, str) else value for value in _values(body, _SWITCHES))
    for switch in switches:
        if isinstance(switch, bool):
            return switch
    effort = next(_values(body, _EFFORTS), None)
    return None if effort is None else effort != "none"


def read_amount(body: Mapping[str, Any]) -> Any:
    """Returns how much thinking a body asks for, an effort or a budget in any server's spelling, or `None`."""
    return next(_values(body, (*_BUDGETS, *_EFFORTS)), None)


def without(body: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Copies a body and leaves out some of its fields, and the objects that become empty by that."""
    left = copy.deepcopy(dict(body))
    for *outer, name in paths:
        parent = left.get(outer[0]) if outer else left
        if isinstance(parent, dict) and name in parent:
            del parent[name]
            if outer and not parent:
                del left[outer[0]]
    return left


def _values(body: Mapping[str, Any], paths: Iterable[Path]) -> Iterator[Any]:
    for *outer, name in paths:
        parent = body.get(outer[0]) if outer else body
        if isinstance(parent, Mapping) and parent.get(name) is not None:
            yield parent[name]
