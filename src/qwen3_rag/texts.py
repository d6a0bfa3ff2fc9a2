"""What every embedder and reranker checks of its input, and how it says that some texts were cut."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Final

from qwen3_rag.errors import ConfigurationError, InputError, TruncationWarning
from qwen3_rag.types import Truncation

_NAMED: Final = 5
"""How many cut texts a warning names."""


def check_texts(texts: Sequence[str], what: str = "texts", *, empty: bool = True) -> None:
    """Checks that an input is a sequence of strings that a tokenizer or a server can read.

    Args:
        texts: The input.
        what: How messages call it.
        empty: Whether empty texts are fine.

    Raises:
        InputError: If it is one string or can be read only once, or an item is no string, holds half of a surrogate pair,
            or is empty and must not be.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(f"{what} must be a list of strings, got one {type(texts).__name__}: put it into a list")
    _check_length(texts, f"{what} must be a list of strings")
    for index, text in enumerate(texts):
        where = f"{what}[{index}]"
        if not isinstance(text, str):
            raise InputError(f"{where} must be a string, got {type(text).__name__}: {text!r:.80}")
        if not empty and not text:
            raise InputError(f"{where} is empty, which this server does not take: leave it out")
        check_unicode(text, where)


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Checks the input of `score_pairs`.

    Raises:
        InputError: If it can be read only once, or an item is no pair of strings.
    """
    _check_length(pairs, "pairs must be a list of pairs")
    for index, pair in enumerate(pairs):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise InputError(f"pairs[{index}] must be (query, document), got {pair!r:.80}")
        check_texts(pair, f"pairs[{index}]")


def _check_length(items: object, what: str) -> None:
    # Checking a generator uses it up: nothing would be left to compute, and nobody would notice.
    if not isinstance(items, Collection):
        raise InputError(f"{what}, got {type(items).__name__}, which has no length: make a list of it")


def check_dimensions(dimensions: int | None) -> None:
    """Checks the length of vectors that a call or an adapter asks for, whatever the model.

    Raises:
        ConfigurationError: If it is neither a positive integer nor `None`.
    """
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1):
        raise ConfigurationError(
            f"dimensions must be a positive integer or None for the model's own, got {dimensions!r}"
        )


def check_unicode(text: str, what: str) -> None:
    """Checks that a string can be written as UTF-8.

    Raises:
        InputError: If it holds half of a surrogate pair, as a file read with `errors="surrogateescape"` may.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds half of a surrogate pair at {error.start}: it is no Unicode; replace it, for example with "
            "text.encode(errors='replace').decode()"
        ) from error


def whole(text: str) -> str:
    """Returns what a model wrote, with a question mark for each half of a surrogate pair."""
    return text.encode(errors="replace").decode()


def warn_truncated(
    truncated: Sequence[Truncation], total: int, limit: str, *, about: str = "", advice: str, stacklevel: int
) -> None:
    """Gives one warning for a whole call, which points at the line that made it.

    Args:
        truncated: What was cut; nothing is said if nothing was.
        total: How many texts the call had.
        limit: To what they were cut.
        about: What stands before the number of lost tokens, where that is estimated.
        advice: The way out.
        stacklevel: As that of `warnings.warn`, seen from the caller of this function.
    """
    if not truncated:
        return
    lost = sum(t.lost for t in truncated)
    which = ", ".join(f"{t.part} {t.index} (-{t.lost})" for t in truncated[:_NAMED])
    more = f" and {len(truncated) - _NAMED} more" if len(truncated) > _NAMED else ""
    warnings.warn(
        f"{len(truncated)} of {total} texts were cut to {limit}, {about}{lost} tokens lost: {which}{more}. {advice}",
        TruncationWarning,
        stacklevel=stacklevel + 1,
    )
