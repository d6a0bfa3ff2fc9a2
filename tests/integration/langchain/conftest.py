"""A Milvus Lite file and a Milvus Lite server: two ways to the same store, empty for every test."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from langchain_core.documents import Document

_names = count()


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server that lives as long as the test session."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the server did not open its port within a minute")


@pytest.fixture(params=["file", "server"])
def where(request: pytest.FixtureRequest, tmp_path) -> dict[str, str]:
    """Arguments of `MilvusStore` for a collection that nobody has used yet."""
    uri = str(tmp_path / "milvus.db") if request.param == "file" else request.getfixturevalue("server_uri")
    return {"uri": uri, "collection": f"test_{next(_names)}"}


@pytest.fixture(scope="session")
def same() -> Callable[[Sequence[Any], Sequence[Any]], bool]:
    """Compares documents, or pairs of document and score: equal but for the last digits of similarities.

    Milvus indexes in the background, and the index adds up in another order than the scan before it.
    """

    def split(item: Any) -> tuple[Document, float]:
        document, score = item if isinstance(item, tuple) else (item, 0.0)
        metadata = dict(document.metadata)
        score += metadata.pop("retrieval_score", 0.0)
        return document.model_copy(update={"metadata": metadata}), score

    def compare(found: Sequence[Any], expected: Sequence[Any]) -> bool:
        left, right = [split(item) for item in found], [split(item) for item in expected]
        return [d for d, _ in left] == [d for d, _ in right] and [s for _, s in left] == pytest.approx(
            [s for _, s in right], abs=1e-5
        )

    return compare
