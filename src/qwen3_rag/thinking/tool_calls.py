"""Tool calls as servers send them, put together: which call a streamed piece belongs to, and an id for each.

What servers do with the pieces of a streamed call:

* DashScope continues with `"id": ""` and no name; others repeat the id and the name in every piece.
* Ollama gives every call of an answer the index 0 (ollama/ollama#16212).
* SGLang before 0.4.7 continues the second call with the index 0 (sgl-project/sglang#6310, langchain-ai/langchain#31511).
* Some send no index, or no id, at all.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class _Open:
    """A call that pieces are added to; `given_id` and `index` are the server's, `id` is never empty."""

    id: str
    given_id: str
    name: str
    index: int | None
    arguments: str = ""

    def complete(self) -> bool:
        try:
            json.loads(self.arguments)
        except ValueError:
            return False
        return True


@dataclass(slots=True)
class CallPieces:
    """The pieces of the calls of one answer: each is told which call it belongs to."""

    _calls: list[_Open] = field(default_factory=list)

    def feed(self, pieces: Iterable[Json] | None) -> list[dict[str, Any]]:
        """Returns pieces with the right index; id and name only on the first piece of a call, `None` on the others."""
        return [self._place(piece) for piece in pieces or ()]

    def whole(self) -> list[dict[str, Any]]:
        """Returns the calls as far as they have come, in the order in which they began."""
        return [_call(call.id, call.name, call.arguments) for call in self._calls]

    def _place(self, piece: Json) -> dict[str, Any]:
        function = piece.get("function") or {}
        given, name, index = str(piece.get("id") or ""), function.get("name") or "", piece.get("index")
        if not isinstance(name, str):
            raise TypeError(f"the name of a tool must be a string, got {name!r:.80}")
        text = _text(function.get("arguments"))
        position = self._find(given, name, index)
        if new := position is None:
            position = len(self._calls)
            self._calls.append(_Open(given or _new_id(), given, name, index))
        call = self._calls[position]
        call.arguments += text
        fresh_name = name if name and (new or not call.name) else None  # it may come late, but once
        call.name = call.name or name
        return {
            "index": position,
            "id": call.id if new else None,
            "type": "function",
            "function": {"name": fresh_name, "arguments": text},
        }

    def _find(self, given: str, name: str, index: int | None) -> int | None:
        """The position of the call that a piece continues; `None` when it begins one."""
        if not self._calls:
            return None
        if given:
            known = self._last(lambda call: call.given_id == given)
            if known is not None or name:
                return known
        latest = len(self._calls) - 1
        at_index = self._last(lambda call: index is not None and call.index == index)
        if name and (at_index is None or (self._calls[at_index].name and self._calls[at_index].complete())):
            return None
        # A whole call takes no more, so its index is wrong and the piece is the latest call's.
        if at_index is None or (at_index != latest and self._calls[at_index].complete()):
            return latest
        return at_index

    def _last(self, matches: Callable[[_Open], bool]) -> int | None:
        return next((place for place in reversed(range(len(self._calls))) if matches(self._calls[place])), None)


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _text(arguments: Any) -> str:
    """The standard has JSON text; some servers send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False) if arguments else ""


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
