"""Which reasoning of earlier answers goes back to the server, and under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from qwen3_rag.errors import InputError
from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking.dialects import Dialect
from qwen3_rag.thinking.policy import HistoryMode
from qwen3_rag.thinking.reader import DETAILS_FIELD, REASONING_FIELDS, Pieces, details_text, merge_details

History: TypeAlias = Literal["strip", "tools", "preserve"]
Reasoning: TypeAlias = str | Sequence[Mapping[str, Any]] | Pieces | None
"""An earlier answer's reasoning: its text, its `reasoning_details`, both, or nothing."""


def resolve_history(mode: HistoryMode, facts: ChatFacts) -> History:
    """Returns what the user asked for, or else what the model's contract wants."""
    return facts.history if mode == "auto" else mode


def outgoing(
    messages: Sequence[Mapping[str, Any]], reasoning: Sequence[Reasoning], *, mode: History, dialect: Dialect
) -> list[dict[str, Any]]:
    """Puts the reasoning of earlier answers on the messages of a request, or leaves it out.

    Args:
        messages: Messages as plain JSON; reasoning fields that they carry already count as their reasoning where
            `reasoning` has none. They are not changed.
        reasoning: One entry per message; only those of assistant messages matter.
        mode: `"strip"`: none. `"tools"`: only after the last user message, which is the tool loop that still runs.
            `"preserve"`: all.
        dialect: Names the field. OpenRouter is sent the `reasoning_details` themselves where there are any.

    Returns:
        Copies of the messages, each with at most one reasoning field, and never an empty one.

    Raises:
        InputError: If there is not one entry per message.
    """
    if len(messages) != len(reasoning):
        raise InputError(f"{len(messages)} messages need as many entries of reasoning, got {len(reasoning)}")
    last_user = max((place for place, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    first = {"strip": len(messages), "tools": last_user + 1, "preserve": 0}[mode]
    return [
        _outgoing(message, own if place >= first else None, keep=place >= first, dialect=dialect)
        for place, (message, own) in enumerate(zip(messages, reasoning, strict=True))
    ]


def _outgoing(message: Mapping[str, Any], own: Reasoning, *, keep: bool, dialect: Dialect) -> dict[str, Any]:
    plain = {key: value for key, value in message.items() if key not in (*REASONING_FIELDS, DETAILS_FIELD)}
    if not keep or message.get("role") != "assistant":
        return plain
    text, details = _parts(own) if own else _parts(_carried(message))
    if details and dialect.name == "openrouter":
        return plain | {DETAILS_FIELD: list(details)}
    return plain | {dialect.reasoning_field: text} if text else plain


def _carried(message: Mapping[str, Any]) -> Pieces:
    texts = (message.get(name) for name in REASONING_FIELDS)
    text = next((text for text in texts if isinstance(text, str) and text), "")
    return Pieces(reasoning=text, details=tuple(message.get(DETAILS_FIELD) or ()))


def _parts(reasoning: Reasoning) -> tuple[str, tuple[Any, ...]]:
    if isinstance(reasoning, str):
        return reasoning, ()
    pieces = reasoning if isinstance(reasoning, Pieces) else Pieces(details=tuple(reasoning or ()))
    return pieces.reasoning or details_text(pieces.details), merge_details(pieces.details)
