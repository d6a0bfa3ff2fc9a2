"""Texts as BM25 gets them: cut into words by us where no analyzer does, so that every Milvus finds the same.

The `standard` analyzer, the only one that Milvus Lite and servers share, splits at what is no letter or digit. A
sentence in Chinese or Japanese is one "word" to it, which no question repeats. So runs of characters of those scripts
go in as overlapping pairs (`数据库` as `数据 据库`), as in Lucene's CJKAnalyzer; Korean, whose words carry their
particles, gains from it too. Documents and questions are cut by the same function, and everything else stays as it is.

Source of the method: https://lucene.apache.org/core/9_0_0/analysis/common/org/apache/lucene/analysis/cjk/CJKBigramFilter.html
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

_PAIRED: Final = re.compile(
    "["
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035"  # iteration marks and numerals
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana, with the mark of long vowels
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"  # Hangul
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "]+"
)
_WORD: Final = re.compile(r"\w")
_SPACE: Final = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Analysed:
    """A text as it goes into the field that BM25 reads.

    Attributes:
        text: Words between spaces.
        words: How many there were, by the spaces between them.
        kept: How many of them `text` holds; fewer than `words` if the field is too short for all.
    """

    text: str
    words: int
    kept: int


def analyse(text: str) -> str:
    """Cuts runs of Chinese, Japanese and Korean characters into overlapping pairs, with spaces between.

    The text is brought to Unicode's form NFKC first, which makes one of the widths and spellings of a character.

    Args:
        text: A passage or a question.

    Returns:
        The text for a BM25 field or a BM25 search.
    """
    return _PAIRED.sub(_pairs, unicodedata.normalize("NFKC", text))


def analyse_within(text: str, limit: int) -> Analysed:
    """As `analyse`, without the words at the end for which the field has no room.

    Args:
        text: A passage.
        limit: Longest result, in UTF-8 bytes.

    Returns:
        The analysed text, and whether all of it is there.
    """
    analysed = analyse(text)
    words = len(analysed.split())
    encoded = analysed.encode()
    if len(encoded) <= limit:
        return Analysed(analysed, words, words)
    # One byte more, to see whether the limit falls between two words; what follows the last space may be half a word.
    head = encoded[: limit + 1].decode(errors="ignore")
    kept = head[: max((space.start() for space in _SPACE.finditer(head)), default=0)]
    return Analysed(kept, words, len(kept.split()))


def has_words(text: str) -> bool:
    """Whether BM25 can look for anything in the text."""
    return _WORD.search(text) is not None


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[start : start + 2] for start in range(len(characters) - 1)]
    return f" {' '.join(pairs or characters)} "
