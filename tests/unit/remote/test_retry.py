"""When a request is sent again, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import (
    ConfigurationError,
    RemoteAuthenticationError,
    RemoteError,
    RemoteRateLimitError,
    RemoteServerError,
)
from qwen3_rag.remote.retry import RetryPolicy, retry_after
from qwen3_rag.remote.timeouts import Timeouts

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def most(low: float, high: float) -> float:
    return high


def waits(policy: RetryPolicy, kinds: list[type[RemoteError]], in_a_row: int = 99) -> list[float | None]:
    """The longest wait after each of some errors."""
    errors = [kind("x") for kind in kinds]
    return [policy.delay(errors[: count + 1], in_a_row, most) for count in range(len(errors))]


def test_waits_double_up_to_a_limit_and_end():
    policy = RetryPolicy(attempts=6, base=0.5, longest=3)
    assert waits(policy, [RemoteServerError] * 6) == [0.5, 1, 2, 3, 3, None]
    assert waits(policy, [RemoteRateLimitError] * 6) == [0.5, 1, 2, 3, 3, None]


def test_where_others_succeed_an_unlucky_request_does_not_wait_for_long():
    assert waits(RetryPolicy(attempts=5), [RemoteServerError] * 4, in_a_row=1) == [0.5] * 4
    assert waits(RetryPolicy(attempts=5), [RemoteServerError] * 4, in_a_row=2) == [0.5, 1, 1, 1]


def test_a_rate_limit_is_waited_for_longer_each_time_whoever_succeeds():
    mixed = [RemoteServerError, RemoteRateLimitError, RemoteServerError, RemoteRateLimitError, RemoteRateLimitError]
    assert waits(RetryPolicy(), mixed, in_a_row=1) == [0.5, 0.5, 0.5, 1, 2]


@given(count=st.integers(1, 200))
def test_jitter_is_full(count: int):
    drawn: list[tuple[float, float]] = []
    errors = [RemoteServerError("x")] * count
    RetryPolicy(attempts=1000).delay(errors, count, lambda low, high: drawn.append((low, high)) or 0.0)
    assert drawn == [(0, min(30, 0.5 * 2 ** min(count - 1, 32)))]


def test_the_servers_own_word_overrules():
    errors = [RemoteRateLimitError("x", retry_after=7.0)]
    assert RetryPolicy().delay(errors, 1, lambda low, high: low) == 7.0
    assert RetryPolicy().delay(errors, 1, most) == 7.5


def test_what_time_does_not_heal_is_not_sent_again():
    assert RetryPolicy().delay([RemoteAuthenticationError("x", retry_after=1.0)], 1) is None
    assert RetryPolicy(attempts=1).delay([RemoteServerError("x")], 1) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=40), usegmt=True)}, 40.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=40), usegmt=True)}, 0.0),
        (
            {
                "date": format_datetime(NOW + timedelta(hours=1), usegmt=True),
                "retry-after": format_datetime(NOW + timedelta(hours=1, seconds=5), usegmt=True),
            },
            5.0,
        ),
        ({"date": "nonsense", "retry-after": "Fri, 20 Nov 2026 12:00:10 GMT"}, 10.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:10"}, 10.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers, NOW) == seconds


@given(value=st.text(max_size=40), date=st.text(max_size=40))
def test_no_header_breaks_it(value: str, date: str):
    seconds = retry_after({"retry-after": value, "date": date}, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"attempts": 0},
        {"attempts": 2.0},
        {"attempts": True},
        {"base": 0},
        {"longest": -1},
        {"base": float("inf")},
        {"base": "1"},
    ],
)
def test_impossible_policies_are_refused(arguments):
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        RetryPolicy(**arguments)


def test_one_number_is_a_total():
    assert Timeouts.of(5) == Timeouts(connect=5, read=5, total=5)
    assert Timeouts.of(60) == Timeouts(connect=10, read=60, total=60)
    assert Timeouts.of(Timeouts(total=9)) == Timeouts(total=9)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "9", True, None])
def test_impossible_timeouts_are_refused(value):
    with pytest.raises(ConfigurationError, match="seconds"):
        Timeouts.of(value)
