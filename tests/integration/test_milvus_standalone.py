"""A real Milvus server, 2.3.5: dense search alone, and rules that Milvus Lite does not have. Skipped unless it is said where.

The package `milvus` on PyPI carries it. It listens on all addresses, at fixed ports, so it runs in a network of its own, and
so do these tests (`make test-standalone`):

    python -m venv .venv-standalone
    .venv-standalone/bin/pip install milvus==2.3.5
    unshare --net sh -c 'ip link set lo up &&
        QWEN3_RAG_MILVUS=.venv-standalone/bin/milvus-server python -m pytest tests/integration/test_milvus_standalone.py'
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from qwen3_rag.errors import CollectionError, InputError, StoreConnectionError, StoreError, UnsupportedError
from qwen3_rag.milvus import MilvusCollection, list_collections, parse_filter
from qwen3_rag.types import Passage
from tests.fakes import OverlapReranker, WordEmbedder
from tests.integration import test_milvus_foreign as foreign
from tests.integration.milvus_support import passages, vectors
from tests.integration.test_milvus_filters import matches

PROGRAM = os.environ.get("QWEN3_RAG_MILVUS")
URI = "http://127.0.0.1:19530"
TOKEN = "root:Milvus"
names = (f"c{i}" for i in count())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="QWEN3_RAG_MILVUS does not say where milvus-server is"),
]


@dataclass
class Server:
    """The server as a process; it asks for a password."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        command = [str(Path(PROGRAM or "").absolute()), "--data", str(self.folder), "--authorization-enabled", "true"]
        with (self.folder.parent / "milvus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder.parent / "milvus.log").read_text(errors="replace")[-2000:]
            try:
                list_collections(URI, token=TOKEN)
            except StoreError:
                time.sleep(0.5)
            else:
                return
        pytest.fail("Milvus did not answer within two minutes")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait(60)
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 19530)) == 0:
            pytest.skip("something answers at port 19530 already: run this in a network of its own")
    server = Server(tmp_path_factory.mktemp("standalone") / "data")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def open_collection(server):
    opened: list[MilvusCollection] = []

    def opener(name: str | None = None, **options) -> MilvusCollection:
        opened.append(MilvusCollection(URI, name or next(names), **{"token": TOKEN, **options}))
        return opened[-1]

    yield opener
    for collection in opened:
        collection.close()


@pytest.fixture
def collection(open_collection):
    return open_collection()


def test_write_search_filter_delete(collection):
    rows, units = passages(40), vectors(40)
    collection.upsert(rows, units)
    assert collection.count() == 40
    query = vectors(1, seed=7)[0]
    expected = np.argsort(-(units @ query))[:5]
    hits = collection.search(query, 5)
    assert [hit.passage for hit in hits] == [rows[i] for i in expected]
    np.testing.assert_allclose([hit.score for hit in hits], (units @ query)[expected], atol=1e-5)
    few = collection.search(query, 40, filter={"n": {"$gte": 10, "$lt": 20}, "$doc_id": "doc1"})
    assert {hit.passage.id for hit in few} == {"p0010", "p0013", "p0016", "p0019"}
    assert collection.get(["p0003", "no", "p0001"]) == [rows[3], rows[1]]
    assert collection.find({"n": {"$in": [1, 2]}}) == rows[1:3]
    assert collection.delete(ids=["p0001"]) == 1
    collection.delete(filter={"$doc_id": "doc2"})
    left = [row for row in rows if row.doc_id != "doc2" and row.id != "p0001"]
    assert collection.find({}) == left
    assert collection.count() == len(left)


def test_a_database_that_does_not_exist_is_no_empty_one(open_collection):
    with pytest.raises(StoreConnectionError, match="no database 'nope'; it has 'default'"):
        open_collection(db_name="nope").count()
    assert open_collection(db_name="default").count() == 0


def test_an_id_is_never_there_twice(collection):
    """An insert would write it a second time here, where Milvus Lite replaces it."""
    for seed in range(3):
        collection.upsert([Passage("a", f"text {seed}", {f"key{seed}": seed})], vectors(1, seed=seed))
    assert collection.find({}) == [Passage("a", "text 2", {"key2": 2})]
    assert collection.search(vectors(1, seed=0)[0], 10)[0].passage.text == "text 2"
    assert collection.count() == 1


def test_what_was_written_is_seen_at_once_by_everybody(collection, open_collection):
    other = open_collection(collection.name)
    for i in range(10):
        collection.upsert(passages(1, i), vectors(1, seed=i))
        assert other.count() == i + 1
        assert other.search(vectors(1, seed=i)[0], 1)[0].passage.id == f"p{i:04}"
        if i % 3 == 2:
            collection.delete(ids=[f"p{i:04}"])
            assert other.get([f"p{i:04}"]) == []
            collection.upsert(passages(1, i), vectors(1, seed=i))


def test_the_longest_text_is_the_one_that_the_server_takes(collection):
    text = "数" * 21_845  # three bytes each
    collection.upsert([Passage("a", text)], vectors(1))
    assert collection.get(["a"])[0].text == text
    with pytest.raises(InputError, match="65536 bytes in UTF-8, the collection allows 65535"):
        collection.upsert([Passage("b", f"{text}!")], vectors(1))


def test_a_contract_outlives_the_handle(collection, open_collection):
    collection.upsert(passages(3), vectors(3), embedder=WordEmbedder(8))
    collection.flush()
    other = open_collection(collection.name)
    assert other.contract.model == "fake/words"
    assert other.count() == 3
    with pytest.raises(CollectionError, match="was written with 'fake/words'"):
        other.upsert(passages(1), vectors(1), embedder=WordEmbedder(8, "fake/other"))
    with pytest.raises(CollectionError, match="holds vectors of 8 dimensions, got 16"):
        other.search(vectors(1, 16)[0])


def test_what_it_can_not_do_is_said_before_anything_is_created(open_collection):
    for sparse, version in (("bm25", "2.5"), ("model", "2.4")):
        wanted = open_collection(sparse=sparse)
        with pytest.raises(UnsupportedError, match=rf"Milvus 2\.3.*use Milvus {version} or later"):
            wanted.upsert(passages(1), vectors(1))
        assert not wanted.exists()
    plain = open_collection()
    plain.upsert(passages(1), vectors(1))
    assert plain.sparse_leg is None
    for search in (lambda: plain.search_text("text"), lambda: plain.hybrid_search(vectors(1)[0], "text")):
        with pytest.raises(CollectionError, match="has no full text"):
            search()


@pytest.mark.parametrize("token", [None, "root:wrong-password", "nobody:Milvus"])
def test_wrong_credentials_are_an_error_that_does_not_show_them(open_collection, token):
    with pytest.raises(StoreError) as error:
        open_collection(token=token, timeout=10).count()
    assert "wrong-password" not in f"{error.value!r} {error.value.__cause__!r}"


async def test_asynchronously_too(collection):
    await collection.aupsert(passages(5), vectors(5))
    hits = await collection.asearch(vectors(5)[2], 2)
    assert [hit.passage for hit in hits] == [hit.passage for hit in collection.search(vectors(5)[2], 2)]
    assert hits[0].passage.id == "p0002"


def test_writers_at_the_same_time(collection):
    collection.upsert(passages(1, 9_000), vectors(1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: collection.upsert(passages(10, 10 * i), vectors(10, seed=i)), range(8)))
    assert collection.count() == 81


def test_the_collections_of_the_server_are_listed(collection):
    collection.upsert(passages(2), vectors(2), embedder=WordEmbedder(8))
    collection.flush()  # a server counts what was flushed
    [info] = [info for info in list_collections(URI, token=TOKEN) if info.name == collection.name]
    assert (info.rows, info.dimensions, info.problem) == (2, 8, None)


FILTERS = [
    {"i": 1},
    {"i": {"$in": [1, 10, -3]}},
    {"i": {"$nin": [1, 10, -3]}},
    {"i": {"$gt": 0.5}},
    {"$not": {"i": {"$gte": -0.5}}},
    {"i": {"$lte": 1e300}},
    {"i": {"$ne": "a"}},
    {"d": {"$lt": 1}},
    {"d": 2.5},
    {"f": 0.1},
    {"f": {"$gte": 0.1}},
    {"flag": True},
    {"flag": {"$ne": True}},
    {"s": {"$in": ["a", '"', "\\"]}},
    {"s": {"$prefix": "ab"}},
    {"$not": {"s": {"$prefix": "ab"}}},
    {"$not": {"s": {"$like": "a%"}}},
    {"tags": {"$contains": "a"}},
    {"$not": {"tags": {"$contains": "a"}}},
    {"nums": {"$contains_any": [-3, 2]}},
    {"doc_id": "d1", "$or": [{"absent": 1}, {"i": {"$exists": True}}]},
    {"absent": {"$ne": 1}, "s": {"$gt": "b"}},
    {"$doc_id": None, "$text": {"$like": "text number 1%"}},
]


@pytest.mark.parametrize("kind", ["columns", "columns, integers", "dynamic", "json"])
def test_collections_that_another_tool_laid_out(server, kind):
    from pymilvus import MilvusClient

    client = MilvusClient(URI, token=TOKEN)
    where, _, integers = kind.partition(", ")
    passages = foreign.make(client, where, auto_id=bool(integers), bm25=False, plain=True)
    try:
        with MilvusCollection(URI, foreign.NAME, token=TOKEN, metric="L2") as collection:
            assert collection.find({}) == foreign.by_id(passages)
            hits = collection.search(foreign.VECTORS[5], 3)
            assert (hits[0].passage, hits[0].score) == (passages[5], pytest.approx(1, abs=1e-4))
            for mapping in FILTERS:
                node = parse_filter(mapping)
                expected = [p for p in passages if matches(node, p)]
                assert collection.find(node) == foreign.by_id(expected), mapping
            found = collection.search(foreign.VECTORS[0], 100, filter={"i": {"$gt": 0.5}})
            assert {hit.passage.id for hit in found} == {p.id for p in passages if p.metadata["i"] > 0.5}
            assert collection.get([passages[3].id, "never"]) == [passages[3]]
            assert collection.delete(ids=[passages[3].id]) == 1
            assert collection.delete(filter={"doc_id": "d1"}) == sum(p.metadata["doc_id"] == "d1" for p in passages)
            assert collection.find({"doc_id": "d1"}) == []
            with pytest.raises(CollectionError, match="laid out by another tool"):
                collection.upsert([Passage("new", "t")], vectors(1))
    finally:
        client.drop_collection(foreign.NAME)
        client.close()


@pytest.mark.skipif(find_spec("langchain_core") is None, reason="needs the extra `langchain`")
def test_langchain(server):
    from qwen3_rag.langchain import Qwen3Retriever

    options = {"uri": URI, "token": TOKEN, "collection": next(names)}
    texts = ["bread needs yeast", "how is data stored here", "data is stored in segments"]
    retriever = Qwen3Retriever.from_texts(texts, WordEmbedder(), OverlapReranker(), **options)
    assert retriever.invoke("how is data stored")[0].page_content == texts[1]
    with pytest.raises(CollectionError, match="has no full text"):
        retriever.invoke("how is data stored", mode="hybrid")
    retriever.source.close()


@pytest.mark.skipif(find_spec("llama_index") is None, reason="needs the extra `llama-index`")
def test_llama_index(server):
    from qwen3_rag.llama_index import MilvusStore, Qwen3Retriever

    texts = ["bread needs yeast", "how is data stored here", "data is stored in segments"]
    with MilvusStore(URI, next(names), token=TOKEN) as store:
        retriever = Qwen3Retriever.from_texts(texts, WordEmbedder(), OverlapReranker(), store=store)
        assert retriever.retrieve("how is data stored")[0].text == texts[1]
        store.delete_nodes([retriever.retrieve("how is data stored")[0].node_id])
        assert len(retriever.retrieve("how is data stored")) == 2


def test_a_server_that_is_killed_and_comes_back_has_everything(server, open_collection):
    collection = open_collection(timeout=10)
    collection.upsert(passages(30), vectors(30), embedder=WordEmbedder(8))
    server.stop(signal.SIGKILL)
    with pytest.raises(StoreConnectionError):
        collection.count()
    server.start()
    assert collection.count() == 30
    assert collection.contract.model == "fake/words"
    assert collection.search(vectors(30)[4], 1)[0].passage == passages(30)[4]
