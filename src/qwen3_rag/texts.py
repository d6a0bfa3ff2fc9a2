"""What every embedder and reranker checks of its texts, and how it says that some were cut."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

from qwen3_rag.errors import InputError, TruncationWarning
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
        InputError: If it is one string, an item is none, holds half of a surrogate pair, or is empty and must not be.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(f"{what} must be a list of strings, got one {type(texts).__name__}: put it into a list")
    for index, text in enumerate(texts):
        where = f"{what}[{index}]"
        if not isinstance(text, str):
            raise InputError(f"{where} must be a string, got {type(text).__name__}: {text!r:.80}")
        if not empty and not text:
            raise InputError(f"{where} is empty, which this server does not take: leave it out")
        check_unicode(text, where)


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
