"""How fast requests leave: requests and tokens per minute, and a pause when the server asks for one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from numbers import Real

from qwen3_rag.errors import ConfigurationError

BURST_SECONDS = 1.0
"""How much may leave at once: DashScope checks a sixtieth of its limits per second too."""


class _Pace:
    """Spreads an amount per minute evenly: the generic cell rate algorithm, which keeps one number."""

    def __init__(self, per_minute: float) -> None:
        self._per_second = per_minute / 60
        self._free_at = -math.inf

    def reserve(self, now: float, amount: float) -> float:
        """Takes its share of the future and returns the time at which it begins."""
        start = max(now, self._free_at - BURST_SECONDS)
        self._free_at = max(now, self._free_at) + amount / self._per_second
        return start


class RateLimit:
    """A limit on requests and tokens per minute.

    Hand one object to several models if they share a vendor's limit. Tokens are counted before they are sent, with the
    model's counter, so that an estimate keeps on the safe side.

    Args:
        requests_per_minute: `None` is no limit.
        tokens_per_minute: `None` is no limit.

    Raises:
        ConfigurationError: If a limit is not positive.
    """

    def __init__(self, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf
            ):
                raise ConfigurationError(f"{name} must be positive or None, got {value!r}")
        self._requests = None if requests_per_minute is None else _Pace(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else _Pace(tokens_per_minute)
        self._paused_until = -math.inf

    def reserve(self, now: float, tokens: int) -> float:
        """Books one request.

        Args:
            now: A monotonic clock's time.
            tokens: What the request holds.

        Returns:
            Seconds to wait before it may leave.
        """
        start = max(now, self._paused_until)
        if self._requests is not None:
            start = max(start, self._requests.reserve(now, 1))
        if self._tokens is not None:
            start = max(start, self._tokens.reserve(now, tokens))
        return start - now

    def pause(self, until: float) -> None:
        """Lets nothing leave before a time: what a server's `Retry-After` means for all of its callers."""
        self._paused_until = max(self._paused_until, until)

    def still_paused(self, now: float) -> float:
        """Returns how many seconds are left of a pause."""
        return max(0.0, self._paused_until - now)

    async def acquire(self, tokens: int, clock: Callable[[], float]) -> None:
        """Waits until a request may leave."""
        wait = self.reserve(clock(), tokens)
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self.still_paused(clock())  # a pause that began meanwhile
