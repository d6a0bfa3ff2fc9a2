"""One search over several sources: the algorithm, without a framework."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.milvus import FusedHit, Leg
from qwen3_rag.retrieval import (
    MAX_THREADS,
    allowed,
    asearch_all,
    check_mode,
    interleave,
    leg_annotations,
    search_all,
)
from qwen3_rag.types import Hit, Passage

NAMES = ["a", "b", "c"]


def test_allow_lists_narrow_one_after_the_other():
    assert allowed(NAMES) == allowed(NAMES, None, None) == NAMES
    assert allowed(NAMES, ["c", "a"]) == ["a", "c"]
    assert allowed(NAMES, ["c", "a"], {"c"}) == ["c"]
    assert allowed(NAMES, []) == allowed(NAMES, ["a"], ()) == []


@pytest.mark.parametrize("lists", [(["d"],), (["a"], ["b"]), ([], ["a"]), (["a", "d"],)])
def test_what_is_not_allowed_is_an_error(lists):
    with pytest.raises(ConfigurationError, match=r"can't be searched here: allowed are"):
        allowed(NAMES, *lists)


@pytest.mark.parametrize("names", ["a", 1, b"a", [1], [None], {"a": 1}])
def test_an_allow_list_is_a_list_of_names(names):
    with pytest.raises(ConfigurationError, match="expected a list of names"):
        allowed(NAMES, names)


@given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 12), max_size=6), max_size=5))
def test_interleaving_keeps_each_item_once_and_each_order(found):
    joined = interleave(found, lambda item: item)
    items = [item for _, item in joined]
    assert sorted(items) == sorted({item for items in found.values() for item in items})
    for name, item in joined:
        assert item in found[name]
    for name, given_items in found.items():
        own = [item for source, item in joined if source == name]
        assert own == [item for item in dict.fromkeys(given_items) if item in own]


def test_interleaving_takes_the_first_of_each_first():
    assert interleave({"x": "ab", "y": "cde", "z": ""}, str) == [
        ("x", "a"),
        ("y", "c"),
        ("x", "b"),
        ("y", "d"),
        ("y", "e"),
    ]
    assert interleave({}, str) == []


def test_searches_run_at_the_same_time_in_the_callers_context():
    both_there = threading.Barrier(2, timeout=10)
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    def search():
        both_there.wait()
        return [variable.get()]

    assert search_all({"x": search, "y": search}) == {"x": ["set"], "y": ["set"]}
    assert search_all({}) == {}


async def test_async_searches_run_at_the_same_time():
    both_there = asyncio.Barrier(2)

    async def search():
        await both_there.wait()
        return [1]

    assert await asyncio.wait_for(asearch_all({"y": search, "x": search}), 10) == {"y": [1], "x": [1]}
    assert await asearch_all({}) == {}


async def test_one_failure_fails_all():
    def fail():
        raise OSError("gone")

    async def afail():
        raise OSError("gone")

    async def fine():
        return [1]

    with pytest.raises(OSError, match="gone"):
        search_all({"x": lambda: [1], "y": fail})
    with pytest.raises(OSError, match="gone"):
        await asearch_all({"x": fine, "y": afail})


async def test_after_a_failure_nothing_is_searched_any_more():
    ended, began = [], []

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def afail():
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await asearch_all({"x": wait, "y": afail})
    assert ended == [True]

    failed = threading.Event()

    def fail():
        failed.set()
        raise OSError("gone")

    def search():
        failed.wait(10)
        time.sleep(0.05)
        began.append(True)
        return []

    many = 4 * MAX_THREADS
    with pytest.raises(OSError, match="gone"):
        search_all({"y": fail} | dict.fromkeys(map(str, range(many)), search))
    assert len(began) < many


def test_where_the_legs_found_a_hit():
    passage = Passage("p", "t")
    assert leg_annotations(Hit(passage, 0.5)) == {}
    assert leg_annotations(FusedHit(passage, 0.5, Leg(2, 0.8), None)) == {"dense_rank": 2, "dense_score": 0.8}
    assert leg_annotations(FusedHit(passage, 0.5, Leg(2, 0.8), Leg(1, 7.5))) == {
        "dense_rank": 2,
        "dense_score": 0.8,
        "sparse_rank": 1,
        "sparse_score": 7.5,
    }


@pytest.mark.parametrize("mode", ["Dense", "", None, "default", 1])
def test_a_mode_that_is_none_is_refused(mode):
    with pytest.raises(ConfigurationError, match="dense, sparse, hybrid"):
        check_mode(mode)
