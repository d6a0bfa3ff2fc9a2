"""What every call does with its texts before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.texts import warn_truncated
from qwen3_rag.tokens import TokenCounter, cut, estimate_tokens
from qwen3_rag.types import Truncation

TooLong: TypeAlias = Literal["error", "truncate", "best_window"]

_CALLER = 5


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


def warn_cut(truncated: Sequence[Truncation], total: int) -> None:
    """Gives one warning for a whole call, which points at the line that made it."""
    advice = "Split them before."
    warn_truncated(truncated, total, "the server's limit", about="about ", advice=advice, stacklevel=_CALLER)
