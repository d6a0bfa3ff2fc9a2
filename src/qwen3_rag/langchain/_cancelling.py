"""What LangChain leaves out: a run that is cancelled has ended too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def ended_if_cancelled(tell: Callable[[BaseException], Awaitable[Any]] | None) -> AsyncIterator[None]:
    """Tells callbacks of a cancellation, after which LangChain would leave the run of a model or a retriever open for ever.

    Args:
        tell: The run's `on_llm_error` or `on_retriever_error`; `None` if nobody listens.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if tell is not None:
            await tell(error)
        raise
