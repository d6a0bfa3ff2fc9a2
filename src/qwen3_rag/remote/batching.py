"""Rows into requests, requests out side by side, and what came back for each row."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from qwen3_rag.errors import (
    RemoteAuthenticationError,
    RemoteBatchError,
    RemoteError,
    RemoteInputTooLongError,
    RemoteModerationError,
    RemoteQuotaError,
)

R = TypeVar("R")

_WAITING = 4
"""Requests under way per place on the wire: those that wait before another attempt leave theirs to others."""

_IN_A_ROW = 3
"""After so many requests that failed one after the other, all attempts used up, the rest is not tried."""

_FOR_ALL = (RemoteAuthenticationError, RemoteQuotaError)
_OF_ONE_ROW = (RemoteModerationError, RemoteInputTooLongError)


def pack(costs: Sequence[int], *, rows: int, tokens: int | None = None) -> Iterator[tuple[int, ...]]:
    """Groups rows in order into requests.

    Args:
        costs: Tokens of each row; for reranking those of query and document together, since that is how
            `query tokens * documents + sum of document tokens` adds up.
        rows: Rows per request at most.
        tokens: Tokens per request at most; a single row above it goes alone.

    Yields:
        The positions in each request; every position is in one of them.
    """
    group: list[int] = []
    used = 0
    for position, cost in enumerate(costs):
        if group and (len(group) == rows or (tokens is not None and used + cost > tokens)):
            yield tuple(group)
            group, used = [], 0
        group.append(position)
        used += cost
    if group:
        yield tuple(group)


@dataclass(slots=True)
class Outcome(Generic[R]):
    """What is known of each row.

    Attributes:
        done: Results by row.
        failed: Errors by row.
        tokens: What the server counted, over all requests.
    """

    done: dict[int, R] = field(default_factory=dict)
    failed: dict[int, RemoteError] = field(default_factory=dict)
    tokens: int = 0


Send = Callable[[tuple[int, ...]], Awaitable[tuple[Sequence[R], int]]]
"""Sends some rows; returns their results in order, and the tokens that the server counted."""


async def send_all(batches: Sequence[tuple[int, ...]], send: Send[R], *, concurrency: int, outcome: Outcome[R]) -> None:
    """Sends requests side by side and files what comes back.

    A request that is refused for the sake of one text is halved until that text is alone. An error that every other
    request would get too, or several failures in a row, stop the rest: those rows get that error, and none is lost.

    Args:
        batches: The rows of each request.
        send: Sends one.
        concurrency: Requests on the wire at once, which `send` itself sees to.
        outcome: Where results and errors are put.
    """
    waiting = deque(batches)
    stopped: list[RemoteError] = []
    in_a_row = 0

    async def work() -> None:
        nonlocal in_a_row
        while waiting and not stopped:
            rows = waiting.popleft()
            try:
                results, tokens = await send(rows)
            except RemoteError as error:
                if isinstance(error, _OF_ONE_ROW) and len(rows) > 1:
                    waiting.extendleft((rows[len(rows) // 2 :], rows[: len(rows) // 2]))
                    continue
                outcome.failed |= dict.fromkeys(rows, error)
                in_a_row += not isinstance(error, _OF_ONE_ROW)
                if isinstance(error, _FOR_ALL) or in_a_row >= _IN_A_ROW:
                    stopped.append(error)
            else:
                in_a_row = 0
                outcome.done.update(zip(rows, results, strict=True))
                outcome.tokens += tokens

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(batches), _WAITING * concurrency)):
                group.create_task(work())
    except BaseExceptionGroup as several:  # not the server's doing: the first tells it
        raise several.exceptions[0] from None
    for rows in waiting:
        outcome.failed |= dict.fromkeys(rows, stopped[0])


def raise_failed(
    outcome: Outcome[R],
    inputs: Sequence[Sequence[int]],
    *,
    what: str,
    value: Callable[[Sequence[R]], Any],
    resume: Callable[[], Any],
    aresume: Callable[[], Awaitable[Any]],
) -> None:
    """Raises the one error of a call, if some of its rows failed.

    Args:
        outcome: What is known of each row.
        inputs: For each input of the call, its rows.
        what: How the message calls the inputs.
        value: Makes an input's result from those of its rows.
        resume: Goes on with what is missing.
        aresume: Its async twin.

    Raises:
        RemoteError: The cause itself if nothing succeeded, else `RemoteBatchError`.
    """
    if not outcome.failed:
        return
    first = next(iter(outcome.failed.values()))
    if not outcome.done:
        raise first
    done: dict[int, Any] = {}
    failed: dict[int, RemoteError] = {}
    for position, rows in enumerate(inputs):
        errors = [outcome.failed[row] for row in rows if row in outcome.failed]
        if errors:
            failed[position] = errors[0]
        else:
            done[position] = value([outcome.done[row] for row in rows])
    raise RemoteBatchError(
        f"{len(failed)} of {len(inputs)} {what} failed, the first at position {min(failed)}: {first}. "
        "The others are in .done, and .resume() sends only what is missing",
        done=done,
        failed=failed,
        resume=resume,
        aresume=aresume,
    ) from first
