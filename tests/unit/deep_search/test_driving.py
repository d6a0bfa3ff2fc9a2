from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from qwen3_rag.deep_search import Search, asearch, in_time, search
from qwen3_rag.retrieval import MAX_THREADS


def step(*questions, seconds=None) -> Search[str]:
    left = seconds if callable(seconds) else lambda question: None if question == "q" else seconds
    return Search(round=1, questions=questions, seconds_for=left)


async def test_work_that_is_done_in_time():
    assert await in_time(asyncio.sleep(0, "x"), None) == "x"
    assert await in_time(asyncio.sleep(0, "x"), 5) == "x"
    assert await in_time(asyncio.sleep(60, "x"), 0.01) is None


async def test_a_timeout_of_the_work_itself_is_raised():
    async def fail():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await in_time(fail(), 5)


async def test_what_runs_out_of_time_is_late():
    async def find(question):
        await asyncio.sleep(60 if question == "b" else 0)
        return [question]

    one = step("q", "a", "b", seconds=0.05)
    await asearch(one, find)
    assert (dict(one.found), one.late) == ({"q": ["q"], "a": ["a"], "b": ()}, {"b"})


def test_what_waited_too_long_for_a_thread_is_late():
    over = threading.Event()

    def find(question):
        if question != "q":
            over.set()
        return [question]

    one = step("q", *"ab", seconds=0)
    search(one, find)
    assert (one.found["q"], one.late) == (["q"], {"a", "b"})
    assert not over.is_set()
    many = step("q", *map(str, range(3 * MAX_THREADS)), seconds=5)
    search(many, find)
    assert len(many.found) == 3 * MAX_THREADS + 1
    assert not many.late


def test_threads_have_the_callers_context():
    seen = ContextVar("seen", default="nobody")
    seen.set("me")
    one = step("q", "a")
    search(one, lambda question: [seen.get()])
    assert dict(one.found) == {"q": ["me"], "a": ["me"]}
