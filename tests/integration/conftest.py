"""Collections on a Milvus Lite file and on a server, two ways to the same store; and a chat server on the loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.thinking import LEARNED
from tests.chat_server import ChatServer
from tests.integration.milvus_support import lite_server

Opener = Callable[..., MilvusCollection]
names = (f"c{os.getpid()}_{i}" for i in count())


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of Milvus Lite, or the server that `MILVUS_TEST_URI` names."""
    if "MILVUS_TEST_URI" in os.environ:
        yield os.environ["MILVUS_TEST_URI"]
        return
    with lite_server(tmp_path_factory.mktemp("server") / "data") as uri:
        yield uri


@pytest.fixture(params=["file", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "milvus.db") if request.param == "file" else request.getfixturevalue("server_uri")


@pytest.fixture
def open_collection(uri: str) -> Iterator[Opener]:
    """Opens collections on `uri`, under a fresh name unless one is given, and closes them afterwards."""
    opened: list[MilvusCollection] = []

    def opener(name: str | None = None, **options: object) -> MilvusCollection:
        opened.append(MilvusCollection(uri, name or next(names), **options))
        return opened[-1]

    yield opener
    for collection in opened:
        collection.close()


@pytest.fixture
def collection(open_collection: Opener) -> MilvusCollection:
    return open_collection()


@pytest.fixture(scope="module")
def running_server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture
def server(running_server: ChatServer) -> Iterator[ChatServer]:
    """A chat server that remembers nothing of other tests, and has no request left open at the end."""
    LEARNED.clear()
    yield running_server
    assert running_server.settled()
    running_server.clear()
    LEARNED.clear()
