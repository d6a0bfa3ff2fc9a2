"""A loopback server and models on it; nothing learnt in one test is known in the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from qwen3_rag.langchain import ChatQwen3
from qwen3_rag.thinking import LEARNED
from tests.chat_server import KEY, ChatServer

planning = import_module("qwen3_rag.thinking.plan")  # the package has a function of that name


@pytest.fixture(autouse=True)
def _nothing_learned() -> Iterator[None]:
    LEARNED.clear()
    planning._warn_once.cache_clear()  # each note is logged once per model and server
    yield
    LEARNED.clear()


@pytest.fixture(scope="session")
def running_server() -> Iterator[ChatServer]:
    with ChatServer(delay=1.0) as server:
        yield server


@pytest.fixture
def server(running_server: ChatServer) -> Iterator[ChatServer]:
    yield running_server
    assert running_server.settled()
    running_server.clear()


@pytest.fixture
def chat(server: ChatServer) -> Callable[..., ChatQwen3]:
    """Makes models of DashScope's face, or of another `face`."""

    def make(
        model: str = "qwen-plus", *, face: str = "dashscope", dialect: str = "dashscope", **options: Any
    ) -> ChatQwen3:
        return ChatQwen3(model, base_url=server.url_for(face), dialect=dialect, api_key=KEY, **options)

    return make
