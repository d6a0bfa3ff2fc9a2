"""Markdown and plain text to passages: one section, one passage, and not a character lost.

A CommonMark parser (markdown-it) decides what a heading is, so a `# comment` in a code fence is none and an underlined
title is one. Passages are exact slices of the file: nothing is rewritten, so a passage can be cited by its lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from qwen3_rag.errors import ConfigurationError, missing_dependency
from qwen3_rag.types import Passage

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_CHARS = 4_000
"""Default limit of a passage, in characters: about 1,000 tokens of English, 2,500 of Chinese."""

SOURCE, HEADINGS, START_LINE, END_LINE, TITLE = "source", "headings", "start_line", "end_line", "title"
"""Metadata keys of a passage."""

# Within a block that is too long, a border this near to the piece's start is passed over: a heading before a very long
# paragraph is not worth a passage of its own.
_SMALLEST_SHARE = 0.25
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|(?<=[。！？；])")
_SPACE = re.compile(r"\s")
_TEXT = re.compile(r"\S")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# `key:` at the left edge, list items, comments and indented continuation: what YAML front matter is made of.
_YAML_LINE = re.compile(r"""\s*$|\s+\S|[\w"'][^:]*:(\s|$)|-\s|#""")
_YAML_TITLE = re.compile(r"""title:\s*(["']?)(.*\S)\1\s*$""")


@dataclass(frozen=True, slots=True)
class _Heading:
    line: int  # first line, counted from 0
    end: int  # line after the heading
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class _Section:
    line: int  # first line, counted from 0
    end: int  # line after the section
    body: int  # line after its heading
    level: int  # 0 before the first heading
    path: tuple[str, ...]


def split_markdown(text: str, source: str, *, max_chars: int = MAX_CHARS) -> list[Passage]:
    r"""Cuts Markdown at its headings.

    Every section becomes one passage that begins with its heading; a heading without text of its own opens the
    passage of its first subsection. Sections over the limit are cut at the borders of their blocks, and where a block
    is longer still at lines, sentences, spaces. YAML front matter is left out, but for its title.

    Args:
        text: The whole file.
        source: Name of the file as it shall be cited, such as its path below the folder. Part of the ids.
        max_chars: Longest passage, in characters. Milvus stores at most 65,535 bytes of text.

    Returns:
        Passages in the order of the file, with the metadata `source`, `headings` (outermost first), `start_line` and
        `end_line` (from 1, inclusive) and, from front matter, `title`. Ids are 32 hexadecimal digits of a SHA-256 over
        source, headings, text and the number of equal passages before it: the same file has the same ids again.

    Raises:
        ConfigurationError: If `max_chars` is not a positive integer.
        MissingDependencyError: If markdown-it-py is not installed.

    Example:
        >>> [p.metadata["headings"] for p in split_markdown("# Milvus\n\n## Index\n\nHNSW\n", "a.md")]
        [['Milvus', 'Index']]
    """
    _check_max_chars(max_chars)
    lines = _lines(text)
    title, first = _front_matter(lines)
    tokens = _parser().parse("\n".join(lines[first:]))
    sections = _merge_bare_headings(_sections(_headings(tokens, first), first, len(lines)), lines)
    metadata = {SOURCE: source} if title is None else {SOURCE: source, TITLE: title}
    return _passages(_File.of(lines, _blocks(tokens, first)), sections, metadata, max_chars)


def split_text(text: str, source: str, *, max_chars: int = MAX_CHARS) -> list[Passage]:
    """Cuts plain text into passages of whole paragraphs.

    Args:
        text: The whole file.
        source: Name of the file as it shall be cited. Part of the ids.
        max_chars: Longest passage, in characters.

    Returns:
        Passages like those of `split_markdown`, with no headings. As many paragraphs as fit go into one.

    Raises:
        ConfigurationError: If `max_chars` is not a positive integer.
    """
    _check_max_chars(max_chars)
    lines = _lines(text)
    paragraphs = [i for i, (before, line) in enumerate(pairwise(["", *lines])) if line.strip() and not before.strip()]
    return _passages(_File.of(lines, paragraphs), [_Section(0, len(lines), 0, 0, ())], {SOURCE: source}, max_chars)


def _check_max_chars(max_chars: int) -> None:
    if isinstance(max_chars, bool) or not isinstance(max_chars, int) or max_chars < 1:
        raise ConfigurationError(f"max_chars must be a positive number of characters, got {max_chars!r}")


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


@cache
def _parser() -> MarkdownIt:
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise missing_dependency("markdown-it-py", "milvus") from error
    parser = MarkdownIt("commonmark")
    # Blocks are all that is needed: links and emphasis stay as they were written.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def _front_matter(lines: Sequence[str]) -> tuple[str | None, int]:
    """Returns the title, if there is one, and the first line after the front matter."""
    if lines[0].rstrip() != "---":
        return None, 0
    end = next((i for i, line in enumerate(lines[1:], start=1) if line.rstrip() in {"---", "..."}), None)
    # Text between two horizontal rules looks alike, and text must not be lost.
    if end is None or not all(_YAML_LINE.match(line) for line in lines[1:end]):
        return None, 0
    titles = (match[2] for line in lines[1:end] if (match := _YAML_TITLE.match(line)))
    return next(titles, None), end + 1


def _headings(tokens: Sequence[Token], offset: int) -> Iterator[_Heading]:
    quotes = 0
    for token, content in pairwise(tokens):
        quotes += (token.type == "blockquote_open") - (token.type == "blockquote_close")
        # A quoted heading belongs to the quotation. One in a list item divides the text: indented files have them.
        if token.type == "heading_open" and token.map is not None and not quotes:
            start, end = token.map
            yield _Heading(offset + start, offset + end, int(token.tag[1:]), " ".join(content.content.split()))


def _blocks(tokens: Sequence[Token], offset: int) -> Iterator[int]:
    """First lines of the paragraphs, lists, tables and code, but for what a heading introduces."""
    previous = ""
    for token in tokens:
        if token.map is not None and token.level == 0:
            if previous != "heading_open":
                yield offset + token.map[0]
            previous = token.type


def _sections(headings: Iterable[_Heading], first: int, end: int) -> list[_Section]:
    open_headings: list[_Heading] = []
    sections = [_Section(first, end, first, 0, ())]
    for heading in headings:
        while open_headings and open_headings[-1].level >= heading.level:
            open_headings.pop()
        open_headings.append(heading)
        sections[-1] = replace(sections[-1], end=heading.line)
        path = tuple(h.title for h in open_headings)
        sections.append(_Section(heading.line, end, heading.end, heading.level, path))
    return sections


def _merge_bare_headings(sections: Iterable[_Section], lines: Sequence[str]) -> list[_Section]:
    """Lets a heading without text open its first subsection: alone it would be found, and answer nothing."""
    merged: list[_Section] = []
    for section in sections:
        previous = merged[-1] if merged else None
        if previous and section.level > previous.level > 0 and _blank(lines[previous.body : previous.end]):
            merged[-1] = replace(section, line=previous.line)
        else:
            merged.append(section)
    return merged


def _blank(lines: Iterable[str]) -> bool:
    # A comment, such as the marks of a generated table of contents, is no text either.
    before, end, after = "\n".join(lines).rpartition("-->")  # none begins after the last end, so none is looked for
    return not (_COMMENT.sub("", before + end) + after).strip()


def _passages(file: _File, sections: Iterable[_Section], metadata: Mapping[str, Any], max_chars: int) -> list[Passage]:
    seen: Counter[str] = Counter()
    passages = []
    for section in sections:
        for start, stop in file.pieces(section.line, section.end, max_chars):
            text = file.text[start:stop]
            id_ = content_id(metadata[SOURCE], section.path, text, seen)
            lines = {START_LINE: file.line(start), END_LINE: file.line(stop - 1)}
            about = {**metadata, HEADINGS: list(section.path), **lines}
            passages.append(Passage(id_, text, about, doc_id=metadata[SOURCE] or None))
    return passages


def content_id(source: str, headings: Sequence[str], text: str, seen: Counter[str]) -> str:
    """Returns the id of a passage: 32 hexadecimal digits of a SHA-256.

    Args:
        source: The source it is cut from.
        headings: The headings above it.
        text: Its text.
        seen: What was cut from the source before; counts this passage.
    """
    content = json.dumps([source, headings, text])
    seen[content] += 1
    return hashlib.sha256(f"{seen[content]}\n{content}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _File:
    """A text with the offsets of its lines and of its blocks (paragraphs, lists, code)."""

    text: str
    lines: Sequence[int]
    blocks: Sequence[int]

    @classmethod
    def of(cls, lines: Sequence[str], blocks: Iterable[int]) -> _File:
        offsets = [0, *accumulate(len(line) + 1 for line in lines)]
        return cls("\n".join(lines), offsets, [offsets[line] for line in blocks])

    def line(self, offset: int) -> int:
        """The line of a character, counted from 1."""
        return bisect_right(self.lines, offset)

    def pieces(self, first: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
        """Yields the slices of some lines, within the limit and without blank lines around them."""
        start, stop = self.lines[first], min(self.lines[end], len(self.text))
        while (start := self._skip_blank(start, stop)) < stop:
            cut = stop if stop - start <= limit else self._cut(start, start + limit)
            length = len(self.text[start:cut].rstrip())
            if length:
                yield start, start + length
            start = cut

    def _skip_blank(self, start: int, stop: int) -> int:
        """Moves to the first line with text, but keeps its indentation."""
        text = _TEXT.search(self.text, start, stop)
        return stop if text is None else max(start, self.text.rfind("\n", start, text.start()) + 1)

    def _cut(self, start: int, limit: int) -> int:
        """Finds the last border up to the limit: of a block, a line, a sentence, a word, or else the limit itself."""
        lowest = start + max(1, int((limit - start) * _SMALLEST_SHARE))
        for borders, nearest in ((self.blocks, start + 1), (self.lines, lowest)):
            position = bisect_right(borders, limit) - 1
            if position >= 0 and borders[position] >= nearest:
                return borders[position]
        for pattern in (_SENTENCE_END, _SPACE):
            ends = [match.end() for match in pattern.finditer(self.text, lowest, limit)]
            if ends:
                return ends[-1]
        return limit
