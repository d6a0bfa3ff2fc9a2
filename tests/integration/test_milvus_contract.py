"""A collection remembers what wrote it, on a file and on a server; and a database lists its collections."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qwen3_rag.errors import CollectionError, ConfigurationError, StoreConnectionError
from qwen3_rag.milvus import CollectionInfo, Contract, MilvusCollection, list_collections
from qwen3_rag.milvus.contract import PROPERTY
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.types import Passage
from tests.fakes import WordEmbedder
from tests.integration.milvus_support import free_port, passages, vectors

EMBEDDER, OTHER = WordEmbedder(8), WordEmbedder(8, "fake/others")


def test_it_is_written_with_the_collection_and_there_after_reopening(collection):
    assert collection.contract is None
    collection.upsert(passages(3), vectors(3), embedder=EMBEDDER, instruction="find it")
    contract = collection.contract
    assert (contract.model, contract.dimensions, contract.instruction) == ("fake/words", 8, "find it")
    collection.flush()
    collection.close()
    assert collection.contract == contract
    collection.upsert(passages(3, 3), vectors(3), embedder=EMBEDDER)
    collection.verify(EMBEDDER)
    assert collection.contract == contract


async def test_another_model_is_refused_and_nothing_is_written(collection, open_collection):
    await collection.aupsert(passages(3), vectors(3), embedder=EMBEDDER)
    again = open_collection(collection.name)
    for call in (
        lambda: again.verify(OTHER),
        lambda: again.upsert(passages(1, 3), vectors(1), embedder=OTHER),
    ):
        with pytest.raises(CollectionError, match=r"'fake/words' \(8 dimensions\), not with 'fake/others'"):
            call()
    with pytest.raises(CollectionError, match="fake/others"):
        await again.averify(OTHER)
    assert again.count() == 3
    again.verify(EMBEDDER, dimensions=8)
    with pytest.raises(CollectionError, match=r"8 dimensions, got 4.*'fake/words', the model,.*ingest again"):
        again.verify(EMBEDDER, dimensions=4)
    open_collection(collection.name, check_model=False).upsert(passages(1, 3), vectors(1), embedder=OTHER)
    assert again.count() == 4


def test_a_collection_without_a_contract_takes_every_model(collection):
    collection.upsert(passages(3), vectors(3))
    collection.verify(EMBEDDER)
    collection.upsert(passages(1, 3), vectors(1), embedder=OTHER)
    assert collection.contract is None
    with pytest.raises(CollectionError, match="8 dimensions, got 4"):
        collection.verify(OTHER, dimensions=4)


def test_before_there_is_a_collection_every_model_fits(collection):
    collection.verify(EMBEDDER, dimensions=3)
    assert not collection.exists()


def test_a_new_collection_of_another_model_is_noticed(collection, open_collection):
    collection.upsert(passages(3), vectors(3), embedder=EMBEDDER)
    other = open_collection(collection.name)
    other.drop()
    other.upsert(passages(3), vectors(3), embedder=OTHER)
    collection.close()
    with pytest.raises(CollectionError, match="'fake/others'"):
        collection.verify(EMBEDDER)
    collection.verify(OTHER)


def test_longer_vectors_among_normalised_ones_are_refused_where_length_counts(open_collection):
    for metric, fits in (("COSINE", True), ("IP", False)):
        c = open_collection(metric=metric)
        c.upsert(passages(3), vectors(3), embedder=EMBEDDER)
        assert c.contract.normalized
        if fits:
            c.upsert(passages(1, 3), 5 * vectors(1))
            continue
        with pytest.raises(CollectionError, match="normalise these too"):
            c.upsert(passages(1, 3), 5 * vectors(1))
    long = open_collection(metric="IP")
    long.upsert(passages(3), 5 * vectors(3), embedder=EMBEDDER)
    long.upsert(passages(1, 3), vectors(1))
    assert not long.contract.normalized


def test_a_broken_contract_is_said(collection, uri):
    from pymilvus import MilvusClient

    collection.upsert(passages(3), vectors(3), embedder=EMBEDDER)
    client = MilvusClient(uri)
    client.alter_collection_properties(collection.name, {PROPERTY: "{"})
    client.close()
    collection.close()
    with pytest.raises(CollectionError, match=r"contract.*can't be read"):
        collection.count()
    assert "can't be read" in {info.name: info for info in list_collections(uri)}[collection.name].problem


def test_the_property_is_plain_json_for_other_tools(collection, uri):
    from pymilvus import MilvusClient

    collection.upsert(passages(1), vectors(1), embedder=EMBEDDER)
    client = MilvusClient(uri)
    stored = json.loads(client.describe_collection(collection.name)["properties"][PROPERTY])
    client.close()
    assert stored == {
        "model": "fake/words",
        "revision": None,
        "dimensions": 8,
        "instruction": DEFAULT_INSTRUCTION,
        "normalized": True,
        "version": collection.contract.version,
        "sparse": "bm25",
    }


# --- listing ---------------------------------------------------------------------------------------------------------


def test_all_collections_of_a_database_are_listed(open_collection, uri):
    from pymilvus import MilvusClient

    ours, plain, words = (open_collection(), open_collection(metric="IP"), open_collection(sparse=None))
    ours.upsert(passages(3), vectors(3), embedder=EMBEDDER)
    plain.upsert(passages(2), vectors(2, 4))
    words.upsert([Passage("a", "t")], [[1.0, 2.0]])
    client = MilvusClient(uri)
    client.create_collection("theirs", dimension=4)
    client.close()
    for handle in (ours, plain, words):
        handle.close()
    found = {info.name: info for info in list_collections(uri)}
    contract = Contract("fake/words", None, 8, DEFAULT_INSTRUCTION, True, ours.contract.version, "bm25")
    assert found[ours.name] == CollectionInfo(ours.name, 3, 8, "COSINE", "HNSW", "bm25", contract)
    assert found[plain.name] == CollectionInfo(plain.name, 2, 4, "IP", "HNSW", "bm25")
    assert found[words.name] == CollectionInfo(words.name, 1, 2, "COSINE", "HNSW", None)
    assert found["theirs"].problem.startswith("collection 'theirs' does not fit: it has nothing where there")
    assert found["theirs"].dimensions is None
    assert list(found) == sorted(found)
    assert ours.count() == 3


def test_listing_creates_nothing_and_gives_the_file_back(tmp_path):
    with pytest.raises(StoreConnectionError, match="no database"):
        list_collections(tmp_path / "m.db")
    assert list(tmp_path.iterdir()) == []
    with MilvusCollection(tmp_path / "m.db") as c:
        c.upsert(passages(1), vectors(1))
        c.drop()
    assert list_collections(tmp_path / "m.db") == []
    (tmp_path / "m.db").rename(tmp_path / "n.db")
    assert list_collections(str(tmp_path / "n.db")) == []


def test_listing_says_what_is_wrong():
    with pytest.raises(ConfigurationError, match=r"\.db"):
        list_collections("m.sqlite")
    with pytest.raises(StoreConnectionError):
        list_collections(f"http://127.0.0.1:{free_port()}", timeout=0.5)


def test_writers_without_a_model_leave_the_contract_alone(collection):
    collection.upsert(passages(3), vectors(3), embedder=EMBEDDER)
    collection.upsert(passages(3), np.roll(vectors(3), 1))
    assert collection.contract.model == "fake/words"
