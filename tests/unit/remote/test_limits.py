"""How fast requests leave."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag import load_embedder
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.remote import RateLimit
from tests.remote_server.faults import Script, right, status
from tests.remote_server.loopback import Loopback


def departures(limit: RateLimit, arrivals: list[tuple[float, int]]) -> list[float]:
    return [now + limit.reserve(now, tokens) for now, tokens in arrivals]


def test_without_a_limit_nothing_waits():
    assert departures(RateLimit(), [(0, 10**9)] * 5) == [0] * 5


def test_requests_leave_evenly_after_a_second_s_worth():
    assert departures(RateLimit(requests_per_minute=60), [(0, 0)] * 4) == pytest.approx([0, 0, 1, 2])
    assert departures(RateLimit(requests_per_minute=600), [(0, 0)] * 13)[-2:] == pytest.approx([0.1, 0.2])


def test_tokens_count_too_and_a_request_larger_than_a_second_s_worth_leaves_once_it_is_paid():
    limit = RateLimit(tokens_per_minute=6000)
    assert departures(limit, [(0, 500), (0, 100), (0, 100)]) == pytest.approx([0, 4, 5])


@given(gaps=st.lists(st.floats(0, 2), min_size=1, max_size=60), rate=st.floats(30, 6000), tokens=st.integers(1, 400))
def test_no_minute_holds_more_than_the_limit_and_a_second_s_worth(gaps, rate, tokens):
    limit, now, left = RateLimit(tokens_per_minute=rate), 0.0, []
    for gap in gaps:
        now += gap
        left.append(now + limit.reserve(now, tokens))
    assert left == sorted(left)
    for start in left:
        # What leaves in a window is at most its share, a second's worth, and the request that uses it up.
        inside = [t for t in left if start <= t < start + 60]
        assert (len(inside) - 1) * tokens <= rate + rate / 60 + 1e-6 * rate + tokens


def test_a_pause_holds_everybody():
    limit = RateLimit()
    limit.pause(10.0)
    limit.pause(4.0)
    assert limit.reserve(3.0, 1) == 7.0
    assert limit.still_paused(9.0) == 1.0
    assert limit.still_paused(11.0) == 0.0


@pytest.mark.parametrize("value", [0, -5, float("inf"), float("nan"), True, "60"])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_impossible_limits_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=name):
        RateLimit(**{name: value})


def embed(url: str, texts: int, **options) -> float:
    embedder = load_embedder("vllm:m", base_url=url, rows=1, probe=False, **options)
    start = time.perf_counter()
    embedder.embed_documents([f"text {number}" for number in range(texts)])
    embedder.close()
    return time.perf_counter() - start


def test_requests_of_a_model_keep_to_its_limit():
    with Loopback(right) as server:
        # 600 a minute: 11 at once, then ten a second
        assert 0.85 <= embed(server.url, 20, rate_limit=RateLimit(requests_per_minute=600)) <= 2.5
        assert len(server.received) == 20


def test_two_models_share_a_limit():
    shared = RateLimit(tokens_per_minute=600)  # ten a second
    with Loopback(right) as server:
        start = time.perf_counter()
        embed(server.url, 5, rate_limit=shared, tokenizer=lambda text: 2)
        embed(server.url, 5, rate_limit=shared, tokenizer=lambda text: 2)
        assert time.perf_counter() - start >= 0.75


def test_retry_after_holds_the_other_requests_as_well():
    with Loopback(Script([status(429, **{"Retry-After": "1"}), None])) as server:
        assert embed(server.url, 6, concurrency=1) >= 1
        assert len(server.received) == 7
