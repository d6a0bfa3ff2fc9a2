"""Every fault of `tests.remote_server.faults`, called both ways: success or one typed error, within a bounded time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from qwen3_rag import load_embedder
from qwen3_rag.errors import Qwen3RagError, RemoteBatchError, RemoteConnectionError
from qwen3_rag.remote import RetryPolicy, Timeouts
from tests.remote_server.faults import CASES, KEY, TEXTS, Case, Script, vector
from tests.remote_server.loopback import Loopback

EXPECTED = np.array([vector(text) for text in TEXTS], np.float32)
QUICK: dict[str, Any] = {
    "retries": RetryPolicy(attempts=4, base=0.01, longest=0.05),
    "timeout": Timeouts(connect=1, read=0.5, total=2),
    "api_key": KEY,
    "probe": False,
}


def call(way: str, url: str) -> Any:
    embedder = load_embedder("vllm:m", base_url=url, **QUICK)
    try:
        if way == "sync":
            return embedder.embed_documents(TEXTS)
        return asyncio.run(embedder.aembed_documents(TEXTS))
    finally:
        embedder.close()


def test_there_are_enough_cases():
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_ends_in_success_or_one_typed_error(case: Case, way: str, faults: list[Any]):
    with Loopback(Script(case.answers)) as server:
        start = time.perf_counter()
        error, result = None, None
        try:
            result = call(way, server.url)
        except Qwen3RagError as caught:
            error = caught
        seconds = time.perf_counter() - start
    faults.append((case.name, way, type(error).__name__ if error else f"right, {len(server.received)} sent", seconds))
    assert type(error) is (case.error or type(None)), error
    assert case.at_least <= seconds <= case.within
    assert case.requests in {None, len(server.received)}
    if error is None:
        np.testing.assert_allclose(result.vectors, EXPECTED, atol=1e-6)
        return
    assert case.says in str(error)
    assert KEY not in f"{error}{error!r}{error.__cause__!r}"
    if isinstance(error, RemoteBatchError):
        assert error.done.keys() | error.failed.keys() == set(range(len(TEXTS)))
        assert not error.done.keys() & error.failed.keys()
        for position, found in error.done.items():
            np.testing.assert_allclose(found, EXPECTED[position], atol=1e-6)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_nobody_there(way: str, faults: list[Any]):
    with Loopback(Script([None])) as server:
        url = server.url
    start = time.perf_counter()
    with pytest.raises(RemoteConnectionError, match="4 attempts"):
        call(way, url)
    faults.append(("nobody there", way, "RemoteConnectionError", time.perf_counter() - start))
