"""Splits a response into reasoning and answer, whatever the server's fields and whatever the chunking.

Servers put the reasoning in `reasoning_content` (DashScope, DeepSeek, SGLang, llama.cpp), in `reasoning` (vLLM, Ollama,
OpenRouter), in `reasoning_details` (OpenRouter), or leave it in the text between `<think>` and `</think>`; where the chat
template opens the block inside the prompt, the text holds the closing tag only. A whole message is read as a stream of one
delta, so both ways agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Start: TypeAlias = Literal["answer", "reasoning", "unknown"]
_State: TypeAlias = Literal["head", "open", "held", "block", "gap", "text"]

REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
DETAILS_FIELD: Final = "reasoning_details"

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_JOINED: Final = ("text", "summary")
_PARTS: Final = (*_JOINED, "signature")
_BEGIN: Final[Mapping[Start, _State]] = {"answer": "head", "reasoning": "open", "unknown": "held"}


@dataclass(frozen=True, slots=True)
class Pieces:
    """What one delta adds.

    Attributes:
        reasoning: More of the reasoning.
        text: More of the answer.
        details: OpenRouter's `reasoning_details` items, as they came; `merge_details` joins them.
    """

    reasoning: str = ""
    text: str = ""
    details: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.text or self.details)


class ReasoningReader:
    r"""Reads the deltas of one choice of one response.

    A reasoning field is taken as it is, but for one of newlines alone, the frame of a block in which nothing was thought;
    once one has brought text, tags in the content are content. Otherwise a block at the beginning of the content is
    reasoning. Only the tags and the newlines of their frame (`<think>\n…\n</think>\n\n`,
    of which some servers leave the last ones after a reasoning field too) are dropped, and no other character.

    Args:
        start: What the content begins with. `"answer"`: the answer, unless its first characters are `<think>`.
            `"reasoning"`: the middle of a block that the prompt has opened. `"unknown"`: perhaps that, so the content is
            held back until `</think>`, a reasoning field or the end tells.
    """

    def __init__(self, *, start: Start = "answer") -> None:
        # head, open, held: at the beginning, as `start` says; block: reasoning; gap: right before the answer; text: it
        self._state: _State = _BEGIN[start]
        self._steps = {
            "head": self._head,
            "open": self._open,
            "held": self._hold,
            "block": self._block,
            "gap": self._gap,
        }
        self._pending = ""  # the beginning of what may become a tag
        self._held: list[str] = []
        self._in_block = False  # whether the block has shown more than the newlines of its frame
        self._from_field = False
        self._blank: str | None = ""  # newlines that began a reasoning field; None once something followed them

    def feed(self, delta: Mapping[str, Any]) -> Pieces:
        """Reads one delta, or a whole message.

        Args:
            delta: A `delta` or `message` object of a chat completion, as plain JSON.

        Returns:
            What can be told apart by now; the rest is kept for the next delta.
        """
        reasoning, details = self._fields(delta)
        earlier = self._leave_block() if self._from_field or details else ""
        inline, text = self._read(_plain_text(delta.get("content")))
        return Pieces(reasoning + inline, earlier + text, details)

    def close(self, *, cut: bool = False) -> Pieces:
        """Ends the response.

        Args:
            cut: Whether it ended for its length: then held content that no `</think>` has ended is reasoning.

        Returns:
            What was held back.
        """
        rest = self.held(cut=cut)
        self._take_back()
        self._state = "text"
        return rest

    def held(self, *, cut: bool = True) -> Pieces:
        """Returns what is held back at the moment, as if the response ended here."""
        inside = self._state in ("open", "block") or (self._state == "held" and cut)
        rest = "".join(self._held) + self._pending
        return Pieces(reasoning=rest) if inside else Pieces(text=rest)

    def _fields(self, delta: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        items = delta.get(DETAILS_FIELD)
        details = tuple(items) if isinstance(items, list | tuple) else ()
        # A dict, because some servers fill both fields with the same text.
        found = dict.fromkeys(text for name in REASONING_FIELDS if isinstance(text := delta.get(name), str) and text)
        self._from_field = self._from_field or bool(found)
        if not self._from_field:
            return details_text(details), details
        return self._unless_blank("".join(found)), details

    def _unless_blank(self, text: str) -> str:
        """Some servers stream the frame of an empty block: it is held until there is reasoning in it."""
        if self._blank is None:
            return text
        text, self._blank = self._blank + text, None
        if not text.strip("\n"):
            text, self._blank = "", text
        return text

    def _leave_block(self) -> str:
        """A reasoning field proves that the server parses, so content before it was no reasoning after all."""
        if self._state in ("gap", "text") or self._in_block:
            return ""
        rest = self._take_back()
        self._state = "gap"
        return self._read(rest)[1]

    def _take_back(self) -> str:
        rest = "".join(self._held) + self._pending
        self._held, self._pending = [], ""
        return rest

    def _read(self, content: str) -> tuple[str, str]:
        """Returns what is reasoning and what is answer."""
        data, self._pending = self._pending + content, ""
        reasoning = ""
        while data and self._state != "text":
            more, data = self._steps[self._state](data)
            reasoning += more
        return reasoning, data

    # Each step returns reasoning and what the next state has to read; nothing to read means to wait for more.

    def _head(self, data: str, otherwise: _State = "text") -> tuple[str, str]:
        body = data.lstrip()
        if body.startswith(_OPEN):
            self._state = "block"
            return "", body.removeprefix(_OPEN)
        if _OPEN.startswith(body):
            self._pending = data
            return "", ""
        self._state = otherwise
        return "", data

    def _open(self, data: str) -> tuple[str, str]:
        return self._head(data, "block")

    def _hold(self, data: str) -> tuple[str, str]:
        body = data.lstrip()
        if not self._held and (body.startswith(_OPEN) or _OPEN.startswith(body)):
            return self._head(data)
        inside, end, rest = data.partition(_CLOSE)
        if end:
            self._state = "gap"
            block = ("".join(self._held) + inside).strip("\n")
            self._held = []
            return block, rest
        self._keep_maybe_close(data)
        self._held.append(data.removesuffix(self._pending))
        return "", ""

    def _block(self, data: str) -> tuple[str, str]:
        if not self._in_block:
            data = data.lstrip("\n")
        inside, end, rest = data.partition(_CLOSE)
        if end:
            self._state = "gap"
            return inside.rstrip("\n"), rest
        self._keep_maybe_close(data)
        sure = data.removesuffix(self._pending)
        self._in_block = self._in_block or bool(sure)
        return sure, ""

    def _gap(self, data: str) -> tuple[str, str]:
        body = data.lstrip("\n")
        if body.startswith(_CLOSE):  # left over by a server that has cut the block out already
            return "", body.removeprefix(_CLOSE)
        if _CLOSE.startswith(body):
            self._pending = body
            return "", ""
        self._state = "text"
        return "", body

    def _keep_maybe_close(self, data: str) -> None:
        """Keeps the end of the data that may turn out to be the frame's newlines and the closing tag."""
        tag = next(length for length in range(len(_CLOSE) - 1, -1, -1) if data.endswith(_CLOSE[:length]))
        self._pending = data[len(data[: len(data) - tag].rstrip("\n")) :]


def merge_details(items: Iterable[Any]) -> tuple[Any, ...]:
    """Joins streamed `reasoning_details` so that they can be sent back: parts of one block share type and index.

    A signature covers the whole text of its block, so a server refuses the parts.

    Args:
        items: Items in the order they came, streamed or whole.

    Returns:
        New items; what does not come in parts is kept as it is.
    """
    merged: list[Any] = []
    places: dict[tuple[Any, int], int] = {}
    for item in items:
        index = item.get("index") if isinstance(item, Mapping) else None
        if not isinstance(index, int) or not any(isinstance(item.get(key), str) for key in _PARTS):
            merged.append(item)
            continue
        place = places.setdefault((item.get("type"), index), len(merged))
        if place == len(merged):
            merged.append(dict(item))
            continue
        block = merged[place]
        for key, value in item.items():
            if key in _JOINED and isinstance(value, str):
                block[key] = (block.get(key) or "") + value
            elif value is not None:
                block[key] = value
    return tuple(merged)


def details_text(items: Iterable[Any]) -> str:
    """Returns the readable part of `reasoning_details`: texts and summaries, not what is encrypted."""
    found = (item.get(key) for item in items if isinstance(item, Mapping) for key in _JOINED)
    return "".join(value for value in found if isinstance(value, str))


def _plain_text(content: Any) -> str:
    """Returns the text of a content that is a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in content)
    return "".join(text for text in texts if isinstance(text, str))
