"""When a failed request is sent again, and after how long. Pure functions of what is passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from qwen3_rag.errors import ConfigurationError, RemoteError, RemoteRateLimitError

_MOST_DOUBLINGS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, which a server's own `Retry-After` overrules.

    Source of the jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    With the defaults a request that is told to slow down is sent for about half a minute before it is given up.

    Attributes:
        attempts: How often a request is sent at most; 1 never sends again.
        base: Upper end of the first wait in seconds; it doubles with every further one.
        longest: Upper end of any wait in seconds.
    """

    attempts: int = 8
    base: float = 0.5
    longest: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigurationError(f"attempts must be a positive integer, got {self.attempts!r}")
        for name in ("base", "longest"):
            check_seconds(name, getattr(self, name))

    def delay(
        self,
        errors: Sequence[RemoteError],
        in_a_row: int,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> float | None:
        """Returns the seconds to wait before the next attempt, or `None` if there is none.

        Waits for a server that fails double as long as nothing succeeds: where other requests come through, one that
        was unlucky need not wait for long. Waits for a rate limit double each time that this request met it.

        Args:
            errors: What the attempts so far ended with.
            in_a_row: How many attempts of any request have failed since one succeeded.
            uniform: Draws a number between two others.
        """
        last = errors[-1]
        if not last.retryable or len(errors) >= self.attempts:
            return None
        if last.retry_after is not None:
            return last.retry_after + uniform(0, self.base)  # or all who were told the same would come back at once
        limited = sum(isinstance(error, RemoteRateLimitError) for error in errors)
        step = limited if isinstance(last, RemoteRateLimitError) else min(len(errors), in_a_row)
        return uniform(0, min(self.longest, self.base * 2 ** min(step - 1, _MOST_DOUBLINGS)))


def check_seconds(name: str, value: float) -> None:
    """Checks a duration.

    Raises:
        ConfigurationError: If it is not a positive finite number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be a positive number of seconds, got {value!r}")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Reads how long a server wants to be left alone.

    Understands `Retry-After` in seconds and as a date (RFC 9110, 10.2.3) and `retry-after-ms`. A date is compared with the
    answer's own `Date`, so that a wrong clock on either side does not matter.

    Args:
        headers: The answer's headers, looked up without regard to case.
        now: The time where the answer has no `Date`; `None` is the clock.

    Returns:
        Seconds, not negative, or `None` if the header is missing or can't be read.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if (seconds := _number(value)) is not None or value is None:
        return seconds
    until = _date(value)
    if until is None:
        return None
    reference = _date(headers.get("date")) or now or datetime.now(UTC)
    return max(0.0, (until - reference).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
