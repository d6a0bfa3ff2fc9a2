"""An ingest with an embedder at a server that refuses one text, or has had enough."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_rag import load_embedder
from qwen3_rag.cache import CachedEmbedder
from qwen3_rag.errors import RemoteBatchError
from qwen3_rag.ingest import ingest, split_at
from qwen3_rag.remote import RetryPolicy
from tests.remote_server.faults import KEY, Script, native, refuse_text, right, status, vector
from tests.remote_server.loopback import Loopback
from tests.unit.ingest.stores import MemoryCollection

WORDS = [f"word{i}" for i in range(8)]
REFUSED = status(400, native("Input data may contain inappropriate content.", "DataInspectionFailed"))


class Dictionary(dict):
    def mget(self, keys):
        return [self.get(key) for key in keys]

    def mset(self, pairs):
        self.update(pairs)


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return tmp_path / "a.txt"


@pytest.fixture
def connect():
    opened = []

    def connect(url):
        retries = RetryPolicy(attempts=2, base=0.01, longest=0.05)
        opened.append(load_embedder("vllm:m", base_url=url, api_key=KEY, probe=False, rows=2, retries=retries))
        return opened[-1]

    yield connect
    for embedder in opened:
        embedder.close()


def stored(collection) -> list[str]:
    for text, _, vectors in collection.content.values():
        np.testing.assert_allclose(np.frombuffer(vectors, np.float32), vector(text), atol=1e-6)
    return sorted(text for text, _, _ in collection.content.values())


@pytest.mark.parametrize("cached", [False, True])
def test_one_refused_text_is_reported_and_the_others_are_sent_once(docs, connect, cached):
    collection = MemoryCollection()
    with Loopback(Script([refuse_text("word5", REFUSED)])) as server:
        embedder = connect(server.url)
        model = CachedEmbedder(embedder, Dictionary()) if cached else embedder
        report = ingest(docs, model, collection, splitter=split_at("\n"), batch_size=8)
        sent = [text for body in server.bodies for text in body["input"]]
    assert stored(collection) == [word for word in WORDS if word != "word5"]
    ((failure,), added) = report.failed_rows, report.added
    assert (failure.where, added) == ("a.txt:6-6", 7)
    assert "inappropriate content" in failure.reason
    if not cached:
        assert all(sent.count(word) == 1 for word in WORDS if word not in {"word4", "word5"})


def test_a_server_that_has_had_enough_keeps_what_it_gave(docs, connect):
    def busy_after(received):
        if {"word6", "word7"} & set(received.body["input"]):
            return status(429, {"error": {"message": "busy"}})
        return right(received)

    collection = MemoryCollection()
    with Loopback(Script([busy_after])) as server, pytest.raises(RemoteBatchError) as caught:
        ingest(docs, connect(server.url), collection, splitter=split_at("\n"), batch_size=8)
    assert stored(collection) == WORDS[:6]
    assert "6 were embedded, stored and kept" in caught.value.__notes__[0]
