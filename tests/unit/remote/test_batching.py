"""Rows into requests, and what came back for each row."""

from __future__ import annotations

import asyncio
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import (
    RemoteAuthenticationError,
    RemoteBatchError,
    RemoteModerationError,
    RemoteQuotaError,
    RemoteServerError,
)
from qwen3_rag.remote.batching import Outcome, pack, raise_failed, send_all


@given(costs=st.lists(st.integers(0, 50), max_size=80), rows=st.integers(1, 12), tokens=st.none() | st.integers(1, 100))
def test_every_row_is_in_one_request_within_the_limits(costs, rows, tokens):
    groups = list(pack(costs, rows=rows, tokens=tokens))
    assert list(chain.from_iterable(groups)) == list(range(len(costs)))
    for group in groups:
        assert 1 <= len(group) <= rows
        assert tokens is None or len(group) == 1 or sum(costs[i] for i in group) <= tokens
    for group, following in pairwise(groups):  # no request could have taken the next row
        full = tokens is not None and sum(costs[i] for i in group) + costs[following[0]] > tokens
        assert len(group) == rows or full


def test_the_rule_of_dashscope_adds_up():
    query, documents = 10, [30, 50, 20, 60]
    costs = [query + document for document in documents]
    for group in pack(costs, rows=500, tokens=130):
        assert query * len(group) + sum(documents[i] for i in group) <= 130


async def run(rows: int, per_request: int, send, concurrency: int = 2) -> Outcome:
    outcome: Outcome = Outcome()
    await send_all(list(pack([1] * rows, rows=per_request)), send, concurrency=concurrency, outcome=outcome)
    return outcome


async def test_results_are_filed_by_row():
    async def send(rows):
        await asyncio.sleep(0.002 * (rows[0] % 3))
        return [row * 10 for row in rows], len(rows)

    outcome = await run(23, 4, send)
    assert outcome.done == {row: row * 10 for row in range(23)}
    assert outcome.failed == {}
    assert outcome.tokens == 23


@given(rows=st.integers(1, 20), guilty=st.sets(st.integers(0, 19), max_size=4), per_request=st.integers(1, 8))
def test_a_refused_text_is_found_and_costs_no_other_its_result(rows, guilty, per_request):
    async def send(asked):
        if guilty & set(asked):
            raise RemoteModerationError("no")
        return list(asked), 1

    outcome = asyncio.run(run(rows, per_request, send))
    assert outcome.failed.keys() == {row for row in guilty if row < rows}
    assert outcome.done == {row: row for row in range(rows) if row not in guilty}


@pytest.mark.parametrize("kind", [RemoteAuthenticationError, RemoteQuotaError])
async def test_an_error_that_all_would_get_stops_the_rest(kind):
    sent = []

    async def send(rows):
        sent.append(rows)
        raise kind("no")

    outcome = await run(400, 1, send, concurrency=1)
    assert len(sent) <= 4
    assert outcome.failed.keys() == set(range(400))


async def test_failures_in_a_row_stop_the_rest_and_single_ones_do_not():
    sent = []

    async def broken(rows):
        sent.append(rows)
        raise RemoteServerError("no")

    assert len((await run(400, 1, broken, concurrency=1)).failed) == 400
    assert len(sent) <= 8

    async def flaky(rows):
        if rows[0] % 3 == 0:
            raise RemoteServerError("no")
        return list(rows), 0

    outcome = await run(300, 1, flaky, concurrency=1)
    assert outcome.failed.keys() == set(range(0, 300, 3))


async def test_what_is_no_error_of_a_server_comes_through_as_it_is():
    async def send(rows):
        if rows[0]:
            await asyncio.sleep(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(3, 1, send)


async def test_cancelling_cancels_every_request():
    started, cancelled = [], []

    async def send(rows):
        started.append(rows)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(rows)
            raise

    task = asyncio.create_task(run(8, 1, send))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(started) == sorted(cancelled) != []


def fail(outcome: Outcome, inputs) -> None:
    async def again():
        return "whole"

    raise_failed(outcome, inputs, what="texts", value=sum, resume=lambda: "whole", aresume=again)


def test_nothing_failed_nothing_raised():
    fail(Outcome({0: 1}), [(0,)])


def test_if_nothing_succeeded_the_cause_is_the_error():
    error = RemoteServerError("no")
    with pytest.raises(RemoteServerError) as caught:
        fail(Outcome({}, {0: error, 1: RemoteServerError("other")}), [(0,), (1,)])
    assert caught.value is error


async def test_a_part_that_succeeded_is_in_the_error_by_position():
    outcome = Outcome({0: 5, 2: 7}, {1: RemoteServerError("no", status=500)})
    with pytest.raises(
        RemoteBatchError, match=r"3 of 5 texts failed, the first at position 1: no \[HTTP 500\]"
    ) as caught:
        fail(outcome, [(0,), (1,), (0, 2), (2, 1), (1,)])
    error = caught.value
    assert error.done == {0: 5, 2: 12}
    assert error.failed.keys() == {1, 3, 4}
    assert error.__cause__ is outcome.failed[1]
    assert error.resume() == await error.aresume() == "whole"
