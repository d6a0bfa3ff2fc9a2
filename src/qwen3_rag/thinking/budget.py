"""A budget of reasoning tokens that calls, models and threads share, and its ledger.

A call reserves tokens before it is sent and settles them when its usage is known. What is reserved can't be granted to
another, so the reasoning of all calls together never passes the budget, as far as the servers honour theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking.ledger import Entry, Price, print_ledger
from qwen3_rag.thinking.usage import Usage

__all__ = ["Entry", "Grant", "Price", "ThinkingBudget"]

MINIMUM_GRANT: Final = 256
"""A rest smaller than this is not worth a thought."""


class Grant:
    """Reasoning tokens that one call may take; made by `ThinkingBudget.reserve`.

    It ends once, by `settle` or by `release`, whichever comes first; what comes later changes nothing.
    """

    __slots__ = ("_end", "_lock", "_tokens", "_unused")

    def __init__(self, tokens: int, end: Callable[[int, _Settlement | None], int]) -> None:
        self._tokens = tokens
        self._end = end
        self._lock = threading.Lock()
        self._unused: int | None = None  # set when the grant ends

    @property
    def tokens(self) -> int:
        """How many; 0: the budget is spent, so don't think."""
        return self._tokens

    def settle(self, usage: Usage | None, model: str) -> int:
        """Books what the call took.

        A server that gives no reasoning tokens, or no usage at all, is charged what it may have taken at most: the grant,
        or its output if that is less.

        Args:
            usage: The call's token counts; `None` if none came.
            model: The name under which the ledger and the price table have the call.

        Returns:
            The part of the grant that was not used, which others can have now.
        """
        return self._finish(_Settlement(usage, model))

    def release(self) -> None:
        """Gives the whole grant back: the call failed or was cancelled, and no usage is known."""
        self._finish(None)

    def _finish(self, settlement: _Settlement | None) -> int:
        with self._lock:
            if self._unused is None:
                self._unused = self._end(self._tokens, settlement)
            return self._unused

    def __repr__(self) -> str:
        return f"Grant(tokens={self._tokens})"


@dataclass(frozen=True, slots=True)
class _Settlement:
    usage: Usage | None
    model: str


class ThinkingBudget:
    """A budget of reasoning tokens, shared by any number of calls, models and threads.

    Args:
        tokens: Reasoning tokens of all calls together.
        per_call: Most that one call gets. Without it a call that names no wish of its own reserves all that is left, so
            calls beside it get nothing until it has settled; set it where calls run in parallel.
        minimum: Grants smaller than this are not made, unless the call wants no more: a thought cut short after a few
            tokens costs and gives nothing.
        prices: Prices by model name, as the calls name it; without an entry a call's cost is unknown.

    Raises:
        ConfigurationError: If a number is not a positive whole number (`minimum` may be 0).
    """

    def __init__(
        self,
        tokens: int,
        *,
        per_call: int | None = None,
        minimum: int = MINIMUM_GRANT,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self._tokens = _checked("tokens", tokens, 1)
        self._per_call = None if per_call is None else _checked("per_call", per_call, 1)
        self._minimum = _checked("minimum", minimum, 0)
        self._prices = MappingProxyType(dict(prices or {}))
        self._lock = threading.Lock()
        self._reserved = 0
        self._spent = 0
        self._ledger: list[Entry] = []

    @property
    def tokens(self) -> int:
        """The whole budget."""
        return self._tokens

    @property
    def remaining(self) -> int:
        """Tokens that can still be granted: neither spent nor reserved."""
        with self._lock:
            return self._free()

    @property
    def spent(self) -> int:
        """Reasoning tokens of the settled calls; more than `tokens` only if a server did not honour its budget."""
        with self._lock:
            return self._spent

    @property
    def ledger(self) -> tuple[Entry, ...]:
        """The settled calls in the order in which they ended, those that did not think included."""
        with self._lock:
            return tuple(self._ledger)

    def reserve(self, wanted: int | None = None) -> Grant:
        """Reserves tokens for one call.

        Args:
            wanted: Most that the call can use; `None` for as much as it may have; 0 for a call that does not think and
                only wants to stand in the ledger.

        Returns:
            The grant; 0 tokens if what is left is not worth thinking.

        Raises:
            ConfigurationError: If `wanted` is not a whole number from 0 on.
        """
        limits = [_checked("wanted", wanted, 0)] if wanted is not None else []
        if self._per_call is not None:
            limits.append(self._per_call)
        with self._lock:
            tokens = min([self._free(), *limits])
            if tokens < min([self._minimum, *limits]):
                tokens = 0
            self._reserved += tokens
        return Grant(tokens, self._end)

    def table(self) -> str:
        """Prints the ledger: what each model took and cost, and all of them together."""
        with self._lock:
            entries, spent, free = tuple(self._ledger), self._spent, self._free()
        head = f"thinking budget: {spent} of {self._tokens} reasoning tokens spent, {free} left"
        return f"{head}\n{print_ledger(entries)}"

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"ThinkingBudget(tokens={self._tokens}, spent={self.spent}, remaining={self.remaining})"

    def __copy__(self) -> ThinkingBudget:
        return self  # a copied model still draws on the same budget

    def __deepcopy__(self, memo: dict[int, Any]) -> ThinkingBudget:
        return self

    def _free(self) -> int:
        return max(0, self._tokens - self._spent - self._reserved)

    def _end(self, granted: int, settlement: _Settlement | None) -> int:
        """Ends a grant and returns its unused part; without a settlement nothing is booked."""
        with self._lock:
            self._reserved -= granted
            if settlement is None:
                return granted
            usage, model = settlement.usage, settlement.model
            charged = _charge(granted, usage)
            self._spent += charged
            self._ledger.append(Entry.of(model, granted, charged, usage, self._prices.get(model)))
            return max(0, granted - charged)


def _charge(granted: int, usage: Usage | None) -> int:
    if usage is None:
        return granted
    return usage.reasoning if usage.reasoning is not None else min(granted, usage.output)


def _checked(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of tokens from {least} on, got {value!r}")
    return value
