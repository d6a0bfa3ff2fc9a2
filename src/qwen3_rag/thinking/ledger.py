"""What calls took and cost: the entries of a budget's ledger, and their sum as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Final

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking.usage import Usage

_PER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, per 1,000,000 tokens.

    Attributes:
        input: Prompt tokens that no cache was involved in.
        output: Tokens that the model writes, reasoning included.
        cached: Prompt tokens read from a cache; `None` if they cost as much as others.
        cache_creation: Prompt tokens written to a cache; `None` if they cost as much as others.
        thinking_output: All output of a call that thought; `None` if it costs as much as without thinking.
        currency: Name of the currency; sums are made per currency.

    Raises:
        ConfigurationError: If a price is negative or no number.
    """

    input: float
    output: float
    cached: float | None = None
    cache_creation: float | None = None
    thinking_output: float | None = None
    currency: str = field(kw_only=True)

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached", "cache_creation", "thinking_output"):
            price = getattr(self, name)
            if price is not None and not (isinstance(price, Real) and 0 <= float(price) < math.inf):
                raise ConfigurationError(f"the price {name!r} per 1,000,000 tokens must be 0 or more, got {price!r}")

    def cost(self, usage: Usage) -> float:
        """Returns what a call cost."""
        cached = min(usage.cached, usage.input)
        created = min(usage.cache_creation, usage.input - cached)
        output = self.thinking_output if usage.reasoning and self.thinking_output is not None else self.output
        return (
            (usage.input - cached - created) * self.input
            + cached * (self.input if self.cached is None else self.cached)
            + created * (self.input if self.cache_creation is None else self.cache_creation)
            + usage.output * output
        ) / _PER


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call in the ledger.

    Attributes:
        model: The name under which the call was settled.
        granted: Reasoning tokens that it was allowed.
        charged: Reasoning tokens that the budget was charged.
        usage: What the server counted; `None` if it did not say.
        cost: What the call cost; `None` if the model has no price or the server gave no usage.
        currency: Currency of `cost`.
    """

    model: str
    granted: int
    charged: int
    usage: Usage | None = None
    cost: float | None = None
    currency: str | None = None

    @classmethod
    def of(cls, model: str, granted: int, charged: int, usage: Usage | None, price: Price | None) -> Entry:
        """Makes the entry of a call, at a price if there is one."""
        if usage is None or price is None:
            return cls(model=model, granted=granted, charged=charged, usage=usage)
        cost, currency = price.cost(usage), price.currency
        return cls(model=model, granted=granted, charged=charged, usage=usage, cost=cost, currency=currency)


_HEAD: Final = ("model", "calls", "input", "cached", "reasoning", "answer", "cost")
_FOOTNOTE: Final = "* incomplete: a server did not say, or the model has no price"


def print_ledger(entries: Sequence[Entry]) -> str:
    """Prints entries as an aligned table in plain text: a line per model, in order of appearance, and one for all."""
    models = dict.fromkeys(entry.model for entry in entries)
    rows = [_HEAD, *(_row(model, [e for e in entries if e.model == model]) for model in models), _row("all", entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, _FOOTNOTE] if any("*" in cell for row in rows for cell in row[1:]) else lines)


def _row(name: str, entries: Sequence[Entry]) -> tuple[str, ...]:
    usages = [entry.usage for entry in entries if entry.usage is not None]
    silent = len(usages) < len(entries)
    unsplit = silent or any(usage.reasoning is None for usage in usages)
    return (
        name,
        str(len(entries)),
        _sum((usage.input for usage in usages), silent),
        _sum((usage.cached for usage in usages), silent),
        _sum((usage.reasoning or 0 for usage in usages), unsplit),
        _sum((usage.answer for usage in usages), unsplit),
        _costs(entries),
    )


def _sum(counts: Iterable[int], incomplete: bool) -> str:
    return f"{sum(counts)}{'*' if incomplete else ''}"


def _costs(entries: Sequence[Entry]) -> str:
    sums: dict[str, float] = {}
    for entry in entries:
        if entry.cost is not None and entry.currency is not None:
            sums[entry.currency] = sums.get(entry.currency, 0.0) + entry.cost
    text = " + ".join(f"{cost:.4f} {currency}" for currency, cost in sums.items())
    return (text or "-") + ("*" if any(entry.cost is None for entry in entries) else "")
