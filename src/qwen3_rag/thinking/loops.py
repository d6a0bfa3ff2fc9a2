"""What is kept for each event loop, until the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary


def at_shutdown(close: Callable[[], Awaitable[None]]) -> object:
    """Lets the running loop await a function when it shuts down its async generators, as it does in `asyncio.run`.

    Returns:
        What has to be held until then; letting go of it calls the function earlier, in the same loop.
    """
    waiting = _until_shutdown(close)
    with suppress(StopIteration):
        waiting.__anext__().send(None)  # up to its `yield`, so that the loop knows it
    return waiting


async def _until_shutdown(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await close()


def forget_closed(kept: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Lets go of what belongs to closed loops, which no one can use any more.

    That the keys are weak does not do it: connections hold the loop that they belong to.

    Args:
        kept: By loop; other threads may change it meanwhile.
    """
    for reference in kept.keyrefs():
        loop = reference()
        if loop is not None and loop.is_closed():
            kept.pop(loop, None)
