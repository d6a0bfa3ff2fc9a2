"""What every driver of a deep search does: search at the same time, and stop what runs out of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from qwen3_rag.deep_search.steps import Search
from qwen3_rag.errors import ServerTimeoutError
from qwen3_rag.retrieval import asearch_all, search_all

T = TypeVar("T")


def search(step: Search[T], retrieve: Callable[[str], Sequence[T]]) -> None:
    """Does a step of searches, each in a thread of its own; one that began is not broken off.

    Args:
        step: The step.
        retrieve: Finds candidates for a question, the best first.
    """

    def one(question: str) -> Sequence[T]:
        left = step.seconds_for(question)
        if left is None or left > 0:
            return retrieve(question)
        step.late.add(question)  # it waited too long for a thread
        return ()

    step.found = search_all({question: partial(one, question) for question in step.questions})


async def asearch(step: Search[T], retrieve: Callable[[str], Awaitable[Sequence[T]]]) -> None:
    """Async twin of `search`; what runs out of time is cancelled."""

    async def one(question: str) -> Sequence[T]:
        found = await in_time(retrieve(question), step.seconds_for(question))
        if found is not None:
            return found
        step.late.add(question)
        return ()

    step.found = await asearch_all({question: partial(one, question) for question in step.questions})


async def in_time(work: Awaitable[T], seconds: float | None) -> T | None:
    """Waits for work, and cancels it when its time is over.

    Args:
        work: What to wait for.
        seconds: How long; `None` for as long as it takes.

    Returns:
        Its result; `None` if its time was over. A `TimeoutError` of its own is raised.
    """
    try:
        async with asyncio.timeout(seconds) as within:
            return await work
    except TimeoutError:
        if not within.expired():
            raise
        return None


def within_timeout(call: Callable[[Mapping[str, float]], T], seconds: float | None, own: float | None) -> T | None:
    """What a sync call of a model has instead of `in_time`: each attempt's timeout is the time that is left.

    Args:
        call: The call, given what to say besides: a timeout, or nothing.
        seconds: How long it may take; `None` for as long as it takes.
        own: The model's own timeout in seconds, which is not made longer; `None` is none.

    Returns:
        Its result; `None` if its time was over. A timeout of the model's own, or of its server, is raised.
    """
    if seconds is None or (own is not None and own <= seconds):
        return call({})
    began = time.monotonic()
    try:
        return call({"timeout": seconds})
    except ServerTimeoutError:
        if time.monotonic() - began < seconds:
            raise
        return None
