"""One event loop in one background thread sends everything, for synchronous and asynchronous callers alike.

So there is one description of a call and one connection pool, whichever way it is used and from however many event
loops. It also is what makes a total deadline exact for synchronous callers: a blocking client can only bound each read.
fsspec does the same (`fsspec.asyn`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_THREAD_NAME = "qwen3-rag-http"


class BackgroundLoop:
    """An event loop in a daemon thread that starts at the first use, and again in a forked process."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine in the loop, in a copy of the caller's context."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine and waits for it; an interrupt of the waiting thread cancels it."""
        future = self.submit(coroutine)
        try:
            return future.result()
        finally:
            future.cancel()  # changes nothing once it is done

    async def arun(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Awaits a coroutine from another event loop; cancelling the caller cancels it."""
        return await asyncio.wrap_future(self.submit(coroutine))

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=_THREAD_NAME, daemon=True).start()
            return self._loop


LOOP = BackgroundLoop()
"""The loop of this process."""
