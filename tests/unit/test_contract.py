"""What a collection remembers of the model that wrote it, without a database."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus import Contract
from qwen3_rag.milvus.contract import PROPERTY
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from tests.fakes import WordEmbedder

UNIT = np.eye(3, 8, dtype=np.float32)


def contract_of(model_id, **fields):
    return Contract.of(WordEmbedder(8, model_id), UNIT, **fields)


def test_it_holds_what_the_writer_says_and_what_its_vectors_show():
    from importlib.metadata import version

    contract = contract_of("Qwen/Qwen3-Embedding-0.6B@v2|max_length=512", instruction="find it")
    assert contract == Contract("Qwen/Qwen3-Embedding-0.6B", "v2", 8, "find it", True, version("qwen3-rag"))
    assert contract_of("fake").instruction == DEFAULT_INSTRUCTION
    assert Contract.of(WordEmbedder(), 2 * UNIT).normalized is False
    assert Contract.of(WordEmbedder(), UNIT.astype(np.float16).astype(np.float32)).normalized is True


texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(
    model=texts,
    revision=st.none() | texts,
    dimensions=st.integers(1, 9999),
    instruction=texts,
    normalized=st.booleans(),
    sparse=st.sampled_from([None, "bm25", "model", "none"]),
)
def test_it_survives_being_stored(model, revision, dimensions, instruction, normalized, sparse):
    contract = Contract(model, revision, dimensions, instruction, normalized, "0.1.0", sparse)
    properties = contract.properties()
    assert all(type(value) is str for pair in properties.items() for value in pair)
    assert Contract.read({"properties": {**properties, "collection.ttl.seconds": "0"}}) == contract


def test_a_collection_of_another_tool_has_none():
    for description in ({}, {"properties": None}, {"properties": {}}, {"properties": {"timezone": "UTC"}}):
        assert Contract.read(description) is None


def test_a_later_version_may_say_more():
    values = json.loads(contract_of("m").properties()[PROPERTY])
    later = {"properties": {PROPERTY: json.dumps({**values, "pooling": "last"})}}
    assert Contract.read(later) == contract_of("m")


def test_an_older_version_said_nothing_of_the_sparse_leg():
    values = json.loads(contract_of("m", sparse="model").properties()[PROPERTY])
    assert values.pop("sparse") == "model"
    assert Contract.read({"properties": {PROPERTY: json.dumps(values)}}) == contract_of("m")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', '{"model": "m"}'])
def test_one_that_can_not_be_read_is_an_error(text):
    with pytest.raises(CollectionError, match=r"'mine'.*can't be read.*take the property"):
        Contract.read({"collection_name": "mine", "properties": {PROPERTY: text}})


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("fake/words", "fake/words"),
        ("Qwen/Qwen3-Embedding-0.6B", "/models/Qwen3-Embedding-0.6B"),
        ("Qwen/Qwen3-Embedding-0.6B", r"C:\models\qwen3-embedding-0.6b"),
        ("Qwen/Qwen3-Embedding-0.6B", "vllm:Qwen/Qwen3-Embedding-0.6B"),
        ("Qwen/Qwen3-Embedding-8B", "ollama:qwen3-embedding:8b"),
        ("Qwen/Qwen3-Embedding-4B@main", "Qwen/Qwen3-Embedding-4B"),
        ("m@a", "m@a"),
        ("m|max_length=512", "m"),
        ("m|not normalized", "m"),
        ("/a@b/model", "/a@b/model"),
    ],
)
def test_names_of_one_model(writer, reader):
    contract_of(writer).check("c", WordEmbedder(8, reader))
    contract_of(reader).check("c", WordEmbedder(8, writer))


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("fake/words", "fake/others"),
        ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-4B"),
        ("Qwen/Qwen3-Embedding-0.6B", "tiny"),
        ("Qwen/Qwen3-Embedding-0.6B", "/models/my-Qwen3-Embedding-0.6B"),
        ("/a/checkpoint", "/b/checkpoint"),
        ("m@a", "m@b"),
    ],
)
def test_another_model_is_refused_with_both_named_and_the_ways_out(writer, reader):
    with pytest.raises(CollectionError) as error:
        contract_of(writer).check("mine", WordEmbedder(16, reader))
    for part in (
        "'mine'",
        repr(writer),
        "8 dimensions",
        repr(reader),
        "another collection",
        "ingest again",
        "check_model=False",
    ):
        assert part in str(error.value)
