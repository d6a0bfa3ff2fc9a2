"""What every call does with its texts before anything is sent."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_rag.errors import ConfigurationError, InputError, TruncationWarning
from qwen3_rag.remote.tokens import TokenCounter, cut, estimate_tokens
from qwen3_rag.types import Truncation

TooLong: TypeAlias = Literal["error", "truncate", "best_window"]

_NAMED = 5
_CALLER = 5


def check_texts(texts: Sequence[str], what: str = "texts", *, empty: bool = True) -> None:
    """Checks that an input is a sequence of strings that can be sent.

    Args:
        texts: The input.
        what: How messages call it.
        empty: Whether the server takes empty texts.

    Raises:
        InputError: If it is one string, an item is none, holds half of a surrogate pair, or is empty and must not be.
    """
    if isinstance(texts, (str, bytes)):
        raise InputError(f"{what} must be a list of strings, got one {type(texts).__name__}: put it into a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{what}[{index}] must be a string, got {type(text).__name__}: {text!r:.80}")
        if not empty and not text:
            raise InputError(f"{what}[{index}] is empty, which this server does not take: leave it out")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{what}[{index}] holds half of a surrogate pair at {error.start}: it is no Unicode"
            ) from error


def check_count(name: str, value: int | None) -> int | None:
    """Checks an option that is a positive number or left out.

    Raises:
        ConfigurationError: If it is neither.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigurationError(f"{name} must be a positive integer or None, got {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Fitted:
    """A text within its limit.

    Attributes:
        text: The text, cut if it had to be.
        tokens: How many tokens it has.
        before: How many it had.
    """

    text: str
    tokens: int
    before: int

    @property
    def was_cut(self) -> bool:
        """Whether it lost tokens."""
        return self.before != self.tokens


def fit(text: str, most: int | None, count: TokenCounter, too_long: TooLong, where: str) -> Fitted:
    """Makes a text fit its limit in the way that the user chose.

    Args:
        text: The text.
        most: Tokens at most; `None` is no limit.
        count: Counts tokens.
        too_long: What to do with a longer one; everything but `"error"` cuts it.
        where: How the message calls the text.

    Raises:
        InputError: If it is too long and must not be cut.
    """
    tokens = count(text)
    if most is None or tokens <= most:
        return Fitted(text, tokens, tokens)
    if too_long == "error":
        how = " by an estimate from above" if count is estimate_tokens else ""
        raise InputError(
            f"{where} has {tokens} tokens{how}, and the limit is {most}: split it, pass too_long='truncate'"
            + (", or pass tokenizer= to count exactly" if how else "")
        )
    short = cut(text, most, count)
    return Fitted(short, count(short), tokens)


def warn_truncated(truncated: Sequence[Truncation], total: int) -> None:
    """Gives one warning for a whole call, which points at the line that made it."""
    if not truncated:
        return
    lost = sum(t.lost for t in truncated)
    which = ", ".join(f"{t.part} {t.index} (-{t.lost})" for t in truncated[:_NAMED])
    more = f" and {len(truncated) - _NAMED} more" if len(truncated) > _NAMED else ""
    warnings.warn(
        f"{len(truncated)} of {total} texts were cut to the server's limit, about {lost} tokens lost: {which}{more}. "
        "Split them before.",
        TruncationWarning,
        stacklevel=_CALLER,
    )
