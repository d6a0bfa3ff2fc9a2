"""What a text file is to an ingest, and which files are wanted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.ingest.limits import Limits

MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
SUFFIXES = MARKDOWN_SUFFIXES | {".txt"}
"""Files that are read, whatever the case of their suffix."""

_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_DIGITS = 12
_LONGEST_NAME = 80


class UnreadableError(Exception):
    """A file can't be read; the message says why. It never leaves this room."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text to read.

    Attributes:
        path: How messages call it.
        source: How it is cited: the path below what was given.
        size: Its size in bytes, as far as progress is concerned.
        root: Label of what it was found below.
        read: Returns its bytes; raises `OSError` or `UnreadableError`.
    """

    path: str
    source: str
    size: int
    root: str
    read: Callable[[], bytes]

    @property
    def markdown(self) -> bool:
        """Whether its name says that it is Markdown."""
        return PurePosixPath(self.source).suffix.lower() in MARKDOWN_SUFFIXES


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files are wanted, and under which label.

    Attributes:
        label: Label of all of them; `None` makes one from where each thing that was given lies.
        include: Pattern for the paths below folders, archives and patterns; `None` is all.
        limits: What is too large.
    """

    label: str | None = None
    include: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("label", "include"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ConfigurationError(f"{name} must be a text that is not empty, got {value!r}")

    def root(self, name: str, identity: str) -> str:
        """Returns the label of something given: the user's, or its name with a digest of where it lies."""
        if self.label is not None:
            return self.label
        digest = hashlib.sha256(f"{identity}\n{self.include or ''}".encode("utf-8", "surrogateescape"))
        readable = name[:_LONGEST_NAME].encode("utf-8", "replace").decode()  # names of files can be any bytes
        return f"{readable}-{digest.hexdigest()[:_DIGITS]}"

    def takes(self, source: str) -> bool:
        """Whether a path below what was given is wanted."""
        return self.include is None or re.fullmatch(_glob_regex(self.include), source) is not None


def suffixes() -> str:
    """The suffixes, for messages."""
    return ", ".join(sorted(SUFFIXES))


def is_text(name: PurePath) -> bool:
    """Whether a file of this name is read."""
    return name.suffix.lower() in SUFFIXES


def is_hidden(source: str) -> bool:
    """Whether a file or a folder of a path is hidden."""
    return any(part.startswith(".") and part != ".." for part in PurePosixPath(source).parts)


def _glob_regex(pattern: str) -> str:
    """Translates a pattern of whole paths: `*` and `?` stay within a folder, `**/` is any folders."""
    parts = re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern)
    return "".join(_WILDCARDS.get(part) or re.escape(part) for part in parts)
