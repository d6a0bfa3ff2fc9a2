"""Which splitter cuts a file: ours, one of LangChain or LlamaIndex, or a function. Ids are content ids with all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, TypeAlias

from qwen3_rag.chunking import END_LINE, SOURCE, START_LINE, content_id, split_markdown, split_text
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.types import Passage


@dataclass(frozen=True, slots=True)
class Piece:
    """What a splitter cut from a file.

    Attributes:
        text: The text of the passage.
        metadata: What the splitter knows of it, such as headings.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


SplitFunction: TypeAlias = Callable[[str, str], Iterable[str | Piece | Passage]]
"""Cuts a text, given with its source. Texts and pieces get ids of their content; passages keep theirs."""

Splitter: TypeAlias = SplitFunction | Any
"""A `SplitFunction`, or a LangChain splitter, known by its `split_text`."""

Split: TypeAlias = Callable[[str, str, bool], list[Passage]]
"""Cuts a text, given with its source and whether it is Markdown."""


def split_at(separator: str) -> SplitFunction:
    r"""Makes a splitter that cuts wherever a string stands and drops the string, as `str.split` does.

    `split_at("# ")` is the rule of the Milvus tutorials: 72 passages from the FAQ of Milvus 2.4.

    Raises:
        ConfigurationError: If the separator is empty.

    Example:
        >>> list(split_at("# ")("# A\n\none\n\n## B\n\ntwo\n", "a.md"))
        ['', 'A\n\none\n\n#', 'B\n\ntwo\n']
    """
    if not isinstance(separator, str) or not separator:
        raise ConfigurationError(f"split_at needs a separator, got {separator!r}")
    return lambda text, _source: text.split(separator)


def resolve_splitter(splitter: Splitter | None, max_chars: int) -> Split:
    """Returns one way to call any splitter.

    Args:
        splitter: `None` is ours: Markdown at its headings, other text at its paragraphs.
        max_chars: Longest passage of ours, in characters.

    Raises:
        ConfigurationError: If it is none that can be called.
    """
    if splitter is None:
        return lambda text, source, markdown: (split_markdown if markdown else split_text)(
            text, source, max_chars=max_chars
        )
    if callable(split := getattr(splitter, "split_text", None)):
        return lambda text, source, _markdown: to_passages(split(text), text, source)
    if callable(getattr(splitter, "get_nodes_from_documents", None)):
        raise ConfigurationError(
            f"{type(splitter).__name__} wants documents of LlamaIndex: give "
            "qwen3_rag.llama_index.node_parser_splitter(parser) as the splitter"
        )
    if not callable(splitter):
        raise ConfigurationError(
            f"splitter must have split_text, as LangChain's have, or be a function of a text and its source, got "
            f"{type(splitter).__name__}"
        )
    return lambda text, source, _markdown: to_passages(splitter(text, source), text, source)


def to_passages(pieces: Iterable[Any], text: str, source: str) -> list[Passage]:
    """Makes passages of what a splitter returned; pieces without text are left out.

    Args:
        pieces: Strings, `Piece`s, documents with `page_content` and `metadata`, or passages.
        text: The whole file.
        source: How it is cited.

    Returns:
        Passages with ids of their content, and with lines where a piece stands in the file as it is.

    Raises:
        InputError: If a piece is something else, or two passages that differ have the same id.
    """
    lines = _Lines(text)
    seen: Counter[str] = Counter()
    passages = [_passage(piece, source, lines, seen) for piece in map(_piece, pieces) if piece.text.strip()]
    texts: dict[str, str] = {}
    for passage in passages:
        if texts.setdefault(passage.id, passage.text) != passage.text:
            raise InputError(f"the splitter gave two passages of {source!r} that differ the id {passage.id!r}")
    return passages


def normalized(text: str) -> str:
    """Takes away the byte order mark and the carriage returns, as our own splitters do."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _piece(given: Any) -> Passage | Piece:
    if isinstance(given, Passage | Piece):
        return given
    text, metadata = getattr(given, "page_content", given), getattr(given, "metadata", {})
    if not isinstance(text, str):
        raise InputError(f"the splitter returned {type(given).__name__}, expected str, Piece, Document or Passage")
    return Piece(text, metadata)


def _passage(piece: Passage | Piece, source: str, lines: _Lines, seen: Counter[str]) -> Passage:
    if isinstance(piece, Passage):
        return replace(piece, metadata={SOURCE: source, **piece.metadata})
    about = {SOURCE: source, **piece.metadata, **lines.find(piece.text)}
    return Passage(content_id(source, (), piece.text, seen), piece.text, about, doc_id=source or None)


class _Lines:
    """Finds the lines of pieces, which come in order and may overlap."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        self._from = self._to = 0

    def find(self, piece: str) -> dict[str, int]:
        words = piece.strip()
        # Pieces may overlap, but none lies within the one before it, where its words may stand too.
        at = self._text.find(words, max(self._from, self._to - len(words) + 1))
        if at < 0:
            return {}
        self._from, self._to = at + 1, at + len(words)
        return {
            START_LINE: bisect_right(self._starts, at),
            END_LINE: bisect_right(self._starts, at + len(words) - 1),
        }
