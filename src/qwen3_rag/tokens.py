"""How many tokens a text has: exactly with a tokenizer, from above without one.

The estimate needs no vocabulary. It follows Qwen's splitting rule (a digit is a token, a word takes the space before it)
and prices words by their letters and other characters by their script. The prices were set on the messages of GLib, GTK and
others in some 90 languages and on source code, where the estimate of a text of 200 characters or more is seldom below the
true count; it mostly is a third to a half above it, in a few languages (Arabic, Russian, Vietnamese) more than double. Strings
of random letters can have more tokens than estimated: count exactly where limits matter with such texts.
"""

from __future__ import annotations

import bisect
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, TypeAlias

from qwen3_rag.errors import ConfigurationError, InputError

TokenCounter: TypeAlias = Callable[[str], int]

_OVERLAP = 8

_WORD = re.compile(r"[A-Za-z]+")
_BREAK = re.compile(r"\s*[\r\n]+|[^\S\r\n]{2,}|\s(?=\d)")
_ENGLISH = re.compile(r"\b(?:the|and|that|with|are|this|you|can|from|which|have|not)\b", re.I)
_ENGLISH_SHARE = 0.05
"""English prose has these for an eighth of its words; other languages and tables of English terms have hardly any."""

_ENGLISH_PRICE = (0.9, 0.12)
_OTHER_PRICE = (0.5, 0.42)
"""Tokens per word, and per letter of it: text in Latin letters that is not English is cut into more pieces."""

_PRICES = (
    (0x0000, 1.0),  # control characters
    (0x0021, 0.9),  # ASCII punctuation; letters are priced as words
    (0x00A0, 1.1),  # Latin with marks
    (0x0250, 2.0),
    (0x0370, 1.2),  # Greek
    (0x0400, 0.8),  # Cyrillic
    (0x0530, 1.4),  # Armenian
    (0x0590, 1.0),  # Hebrew
    (0x0600, 1.0),  # Arabic
    (0x0700, 2.5),
    (0x0900, 1.6),  # Devanagari
    (0x0980, 2.5),  # other Indic scripts, of which the vocabulary holds few pieces
    (0x0E00, 1.1),  # Thai
    (0x0E80, 2.7),
    (0x10A0, 1.4),  # Georgian
    (0x1100, 2.8),
    (0x1E00, 1.2),  # Vietnamese
    (0x2000, 2.0),  # punctuation, symbols
    (0x3000, 1.0),  # Japanese kana, CJK punctuation
    (0x3400, 2.5),  # rare ideographs
    (0x4E00, 1.1),  # ideographs
    (0xA000, 2.9),
    (0xAC00, 1.1),  # Hangul
    (0xD800, 3.0),
    (0xFF00, 1.0),  # full-width forms
    (0x10000, 3.0),  # emoji and beyond
)


class _CharacterPrices(dict[str, float]):
    """The price of a character, looked up in the table once."""

    def __missing__(self, character: str) -> float:
        point = ord(character)
        price = next(price for start, price in reversed(_PRICES) if start <= point)
        if character.isdecimal() and character.isascii():
            price = 1.0
        elif character.isspace() or (character.isascii() and character.isalpha()):
            price = 0.0  # counted by words and breaks
        self[character] = price
        return price


_CHARACTER = _CharacterPrices()


def estimate_tokens(text: str) -> int:
    """Estimates from above how many tokens of Qwen's vocabulary a text has."""
    words = _WORD.findall(text)
    letters = sum(map(len, words))
    english = len(_ENGLISH.findall(text)) > _ENGLISH_SHARE * len(words)
    per_word, per_letter = _ENGLISH_PRICE if english else _OTHER_PRICE
    others = sum(map(_CHARACTER.__getitem__, unicodedata.normalize("NFC", text)))
    return math.ceil(per_word * len(words) + per_letter * letters + others + len(_BREAK.findall(text)))


def token_counter(tokenizer: Any = None) -> TokenCounter:
    """Returns what counts the tokens of a text.

    Args:
        tokenizer: `None` estimates; otherwise a function from text to number, or an object whose `encode` returns the ids
            or something with `ids`: tokenizers of transformers, `tokenizers` and tiktoken do.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if tokenizer is None:
        return estimate_tokens
    encode = getattr(tokenizer, "encode", None)
    if callable(encode) and not isinstance(tokenizer, str):

        def count(text: str) -> int:
            encoded = encode(text)
            return len(getattr(encoded, "ids", encoded))

        return count
    if callable(tokenizer):
        function: TokenCounter = tokenizer
        return function
    raise ConfigurationError(
        f"tokenizer must have encode() or be a function that counts, got {type(tokenizer).__name__}"
    )


def cut(text: str, most: int, count: TokenCounter) -> str:
    """Returns the longest beginning of a text that has at most so many tokens, found by bisection.

    What is counted on the way grows with the beginning, not with the text.
    """
    fits, reach = 0, max(1, most)
    while reach < len(text) and count(text[:reach]) <= most:
        fits, reach = reach, 2 * reach
    if reach >= len(text):
        if count(text) <= most:
            return text
        reach = len(text)
    longest = bisect.bisect_right(range(reach), most, lo=fits, key=lambda length: count(text[:length])) - 1
    return text[: max(0, longest)]


def windows(text: str, most: int, count: TokenCounter) -> list[str]:
    """Cuts a text into pieces of at most so many tokens that overlap by an eighth.

    Raises:
        InputError: If not even one character fits.
    """
    pieces, start = [], 0
    while True:
        piece = cut(text[start:], most, count)
        if not piece and text:
            raise InputError(f"a window of {most} tokens holds not even one character: raise max_tokens")
        pieces.append(piece)
        if start + len(piece) >= len(text):
            return pieces
        start += max(1, len(piece) - len(piece) // _OVERLAP)
