"""Citations in an answer: `[1]`, `[1][2]`, `[1, 3]`, `[1-3]`, `【1】`, checked while the answer is still being written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

_OPEN, _CLOSE = "[\\[【［]", "[\\]】］]"
_INSIDE = r"[\d \t,，、;；\-–—~]"
_NUMBER = r"\d{1,3}(?:[ \t]*[-–—~][ \t]*\d{1,3})?"
_LIST = rf"{_NUMBER}(?:[ \t]*[,，、;；][ \t]*{_NUMBER})*"

# `partial` is whatever may still become a citation, so that how a text is cut into chunks never changes what is found.
_PROSE: Final = re.compile(
    rf"(?P<marker>(?P<space>[ \t]*){_OPEN}[ \t]*(?P<list>{_LIST})[ \t]*{_CLOSE})"
    rf"|(?P<partial>[ \t]*(?:{_OPEN}{_INSIDE}*)?\Z)"
    r"|(?P<ticks>`+)|(?P<line>\n)|[^`\n\[【［ \t]+|[ \t]+|.",
)
_CODE: Final = re.compile(r"(?P<ticks>`+)|(?P<line>\n)|[^`\n]+")
# What keeps back what is held back: after ticks, an open bracket, blanks.
_MORE_TICKS: Final = re.compile("`*")
_MORE_INSIDE: Final = re.compile(f"{_INSIDE}*")
_MORE_BLANKS: Final = re.compile(r"[ \t]*")
_RANGE: Final = re.compile(r"(\d+)(?:[ \t]*[-–—~][ \t]*(\d+))?")

_FENCE: Final = 3  # so many backticks begin a block that goes over lines


@dataclass(frozen=True, slots=True)
class Mark:
    """One number of a citation in the text that was given out.

    Attributes:
        number: Which passage.
        start: Where its `[n]` begins in the text.
        end: Where it ends.
    """

    number: int
    start: int
    end: int


class CitationReader:
    """Passes an answer on, with its citations in one form, `[1][3]`, and without those that cite nothing.

    Code between backticks is left alone: there `a[1]` is no citation. So are numbers of more than three digits, years for
    example. The text is the same however it is cut into chunks.

    Args:
        known: How many passages the model was given: 1 to this are valid.

    Attributes:
        marks: The valid citations so far, in the order of the text.
        invalid: The other numbers, each once; they were removed with the space before them.
    """

    def __init__(self, known: int) -> None:
        self.marks: list[Mark] = []
        self.invalid: list[int] = []
        self._known = known
        self._held = ""
        self._more = _MORE_BLANKS
        self._length = 0  # of the text given out
        self._ticks = 0  # how many backticks opened the code that the text is in; 0 outside

    def feed(self, text: str) -> str:
        """Takes a piece of the answer, and returns what can be given out."""
        # Where a model goes round in circles, reading all that is held back again for each piece would take minutes.
        if self._held and self._more.fullmatch(text):
            self._held += text
            return ""
        return self._given_out(self._read(text, last=False))

    def close(self) -> str:
        """Returns what was held back; the answer is over."""
        return self._given_out(self._read("", last=True))

    def _given_out(self, pieces: Iterator[str]) -> str:
        out = []
        for piece in pieces:
            out.append(piece)
            self._length += len(piece)
        return "".join(out)

    def _read(self, text: str, *, last: bool) -> Iterator[str]:
        text, self._held = self._held + text, ""
        position = 0
        while position < len(text):
            # Both patterns take any character.
            match = cast("re.Match[str]", (_CODE if self._ticks else _PROSE).match(text, position))
            position = match.end()
            kind = match.lastgroup
            if not last and (kind == "partial" or (kind == "ticks" and position == len(text))):
                self._held = match.group()
                self._more = _MORE_TICKS if kind == "ticks" else _MORE_INSIDE if self._held.strip() else _MORE_BLANKS
            elif match.groupdict().get("list"):
                yield from self._cite(match["space"], match["list"])
            else:
                self._look_for_code(kind, len(match.group()))
                yield match.group()

    def _cite(self, space: str, listed: str) -> Iterator[str]:
        numbers = dict.fromkeys(number for found in _RANGE.finditer(listed) for number in _numbers(found))
        self.invalid += [n for n in numbers if not 1 <= n <= self._known and n not in self.invalid]
        valid = [number for number in numbers if 1 <= number <= self._known]
        if valid:
            yield space
        for number in valid:
            marker = f"[{number}]"
            self.marks.append(Mark(number, self._length, self._length + len(marker)))
            yield marker

    def _look_for_code(self, kind: str | None, length: int) -> None:
        if kind == "ticks":
            if not self._ticks:
                self._ticks = length
            elif length == self._ticks or (length > self._ticks >= _FENCE):
                self._ticks = 0
        elif kind == "line" and self._ticks < _FENCE:
            self._ticks = 0


def _numbers(match: re.Match[str]) -> range:
    first = int(match[1])
    return range(first, int(match[2] or first) + 1)
