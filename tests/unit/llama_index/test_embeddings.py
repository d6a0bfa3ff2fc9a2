"""`Qwen3Embedding` as a LlamaIndex embedding model."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index import Qwen3Embedding
from qwen3_rag.llama_index.embeddings import CACHE_COLLECTION, KVCacheStorage
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from tests.fakes import WordEmbedder


def test_is_what_llama_index_takes():
    model = Qwen3Embedding(WordEmbedder())
    assert isinstance(model, BaseEmbedding)
    assert model.class_name() == "Qwen3Embedding"


def test_construction_loads_nothing():
    Qwen3Embedding("/nowhere/at-all", dimensions=64, device="cpu")


def test_the_model_is_positional_and_may_be_called_model_name():
    assert Qwen3Embedding("tiny").model_name == "tiny"
    assert Qwen3Embedding(model_name="tiny").model_name == "tiny"
    assert Qwen3Embedding().model_name == "Qwen/Qwen3-Embedding-0.6B"
    assert Qwen3Embedding(WordEmbedder(model_id="mine")).model_name == "mine"


def test_the_model_is_named_once():
    with pytest.raises(ConfigurationError, match=r"'a'.*'b'"):
        Qwen3Embedding("a", model_name="b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instruction": "  "}, "instruction"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"dimensions": 1.5}, "dimensions"),
        ({"embeddings_cache": {}}, "embeddings_cache.*dict"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Qwen3Embedding(WordEmbedder(), **arguments)


def test_a_named_model_checks_its_width_at_once():
    with pytest.raises(ConfigurationError, match="between 32 and 1024, got 2000"):
        Qwen3Embedding("Qwen/Qwen3-Embedding-0.6B", dimensions=2000)


def test_unknown_options_are_not_swallowed():
    with pytest.raises(TypeError, match="colour"):
        Qwen3Embedding("tiny", colour="red")
    with pytest.raises(ConfigurationError, match="'device'"):
        Qwen3Embedding(WordEmbedder(), device="cpu")


@pytest.mark.parametrize("size", [0, 2049])
def test_llama_index_keeps_its_limits_on_the_batch(size):
    with pytest.raises(ValueError, match="embed_batch_size"):
        Qwen3Embedding(WordEmbedder(), embed_batch_size=size)


def test_whole_batches_are_handed_over_by_default():
    core = WordEmbedder()
    Qwen3Embedding(core).get_text_embedding_batch([str(i) for i in range(2048)])
    assert len(core.calls) == 1


def test_embed_batch_size_is_honoured():
    core = WordEmbedder()
    model = Qwen3Embedding(core, embed_batch_size=3)
    vectors = model.get_text_embedding_batch(list("abcdefgh"))
    assert [len(texts) for _, texts, _ in core.calls] == [3, 3, 2]
    assert np.allclose(vectors, core.embed_documents(list("abcdefgh")).vectors)


# --- instruction -----------------------------------------------------------------------------------------------------


def test_query_prompt_is_applied_by_default():
    """LlamaIndex's HuggingFaceEmbedding wipes the model's own query prompt, so queries go in bare."""
    core = WordEmbedder()
    model = Qwen3Embedding(core)
    assert model.get_query_embedding("milvus") != model.get_text_embedding("milvus")
    assert [role for role, _, _ in core.calls] == ["query", "document"]


def test_instruction_reaches_queries_only():
    core = WordEmbedder()
    plain, model = Qwen3Embedding(core), Qwen3Embedding(core, instruction="find code")
    assert model.get_query_embedding("x") != plain.get_query_embedding("x")
    assert model.get_text_embedding("x") == plain.get_text_embedding("x")


async def test_instruction_per_call():
    core = WordEmbedder()
    model = Qwen3Embedding(core, instruction="per instance")
    expected = Qwen3Embedding(core, instruction="per call").get_query_embedding("x")
    assert model.get_query_embedding("x", instruction="per call") == expected
    assert await model.aget_query_embedding("x", instruction="per call") == expected
    assert model.get_query_embedding("x") != expected, "a call must not change the instance"


def test_with_instruction_shares_everything_and_changes_nothing():
    core = WordEmbedder()
    model = Qwen3Embedding(core, embed_batch_size=7)
    copy = model.with_instruction("find code")
    assert copy.embedder is core
    assert copy.embed_batch_size == 7
    assert (model.instruction, copy.instruction) == (None, "find code")
    assert copy.with_instruction(None).get_query_embedding("x") == model.get_query_embedding("x")
    with pytest.raises(ConfigurationError):
        model.with_instruction(" ")


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_any_instruction_and_query_arrive_as_they_are(instruction, query):
    core = WordEmbedder()
    Qwen3Embedding(core).get_query_embedding(query, instruction=instruction)
    assert core.calls == [("query", (query,), instruction)]


def test_dimensions():
    model = Qwen3Embedding(WordEmbedder(), dimensions=16)
    assert len(model.get_query_embedding("x")) == 16
    vector = model.get_text_embedding("x y z")
    assert len(vector) == 16
    assert np.linalg.norm(vector) == pytest.approx(1)


# --- cache -----------------------------------------------------------------------------------------------------------


def test_cache_saves_the_second_call():
    core = WordEmbedder()
    model = Qwen3Embedding(core, embeddings_cache=SimpleKVStore())
    first = model.get_text_embedding_batch(["a", "b"])
    calls = len(core.calls)
    assert model.get_text_embedding_batch(["b", "a"]) == first[::-1]
    assert model.get_text_embedding("a") == first[0]
    assert len(core.calls) == calls


def test_cache_does_not_collide():
    """LlamaIndex keys its cache by the bare text: a query gets a document's vector, one model another's."""
    store = SimpleKVStore()
    cores = [WordEmbedder(model_id="one"), WordEmbedder(dimensions=32, model_id="two")]
    variants = [
        Qwen3Embedding(core, embeddings_cache=store, dimensions=dimensions, instruction=instruction)
        for core in cores
        for dimensions in (None, 16)
        for instruction in (None, "find code")
    ]
    bare = [Qwen3Embedding(m.embedder._inner, dimensions=m.dimensions, instruction=m.instruction) for m in variants]
    for _ in range(2):  # the second time everything is a hit
        for model, reference in zip(variants, bare, strict=True):
            assert model.get_query_embedding("same text") == reference.get_query_embedding("same text")
            assert model.get_text_embedding("same text") == reference.get_text_embedding("same text")
            assert model.get_text_embedding_batch(["same text"]) == reference.get_text_embedding_batch(["same text"])


async def test_cache_is_shared_by_sync_and_async():
    core = WordEmbedder()
    model = Qwen3Embedding(core, embeddings_cache=SimpleKVStore())
    expected = model.get_text_embedding_batch(["a", "b"]), model.get_query_embedding("q")
    calls = len(core.calls)
    assert (await model.aget_text_embedding_batch(["a", "b"]), await model.aget_query_embedding("q")) == expected
    assert len(core.calls) == calls


def test_llama_index_own_cache_stays_out(tmp_path):
    store = SimpleKVStore()
    model = Qwen3Embedding(WordEmbedder(), embeddings_cache=store)
    model.get_text_embedding("a")
    assert store.get_all("embeddings") == {}
    assert len(store.get_all(CACHE_COLLECTION)) == 1
    with pytest.raises(ConfigurationError, match="constructor"):
        model.embeddings_cache = store
    model.embeddings_cache = None

    store.persist(str(tmp_path / "cache.json"))  # JSON, so nothing but strings may be in it
    core = WordEmbedder()
    again = Qwen3Embedding(core, embeddings_cache=SimpleKVStore.from_persist_path(str(tmp_path / "cache.json")))
    assert again.get_text_embedding("a") == model.get_text_embedding("a")
    assert core.calls == []


@pytest.mark.parametrize("value", [{}, {"other": 1}, {"vector": 3}, {"vector": "not base64!"}, {"vector": "YQ"}])
def test_foreign_values_in_the_cache_are_misses(value):
    store = SimpleKVStore()
    store.put("key", value, collection=CACHE_COLLECTION)
    assert KVCacheStorage(store).mget(["key", "absent"]) == [None, None]


@given(st.dictionaries(st.text(), st.binary()))
def test_cache_storage_returns_what_it_was_given(values):
    storage = KVCacheStorage(SimpleKVStore())
    storage.mset(list(values.items()))
    assert storage.mget(list(values)) == list(values.values())


# --- serialisation, traces -------------------------------------------------------------------------------------------


def test_payload_shows_what_matters():
    payload = Qwen3Embedding("tiny", instruction="find code", dimensions=64, cache_folder="/secret").to_payload()
    assert payload == {
        "class_name": "Qwen3Embedding",
        "model_name": "tiny",
        "embed_batch_size": 2048,
        "instruction": "find code",
        "dimensions": 64,
    }


def test_dict_round_trip():
    model = Qwen3Embedding("tiny", instruction="find code", dimensions=64, device="cpu", embed_batch_size=5)
    data = json.loads(model.to_json())
    assert "callback_manager" not in data
    again = Qwen3Embedding.from_dict(data)
    assert again.to_dict() == model.to_dict()
    assert again.embedder.dimensions == 64


def test_pydantic_round_trip():
    model = Qwen3Embedding("tiny", instruction="find code", dimensions=64, device="cpu")
    assert Qwen3Embedding.model_validate(model.model_dump()).to_dict() == model.to_dict()


def test_paths_among_the_options_are_written_as_text(tmp_path):
    model = Qwen3Embedding("tiny", cache_folder=tmp_path)
    assert json.loads(model.to_json())["model_kwargs"] == {"cache_folder": str(tmp_path)}


def test_dict_round_trip_with_a_cache():
    data = Qwen3Embedding("tiny", embeddings_cache=SimpleKVStore()).to_dict()
    json.dumps(data)
    Qwen3Embedding.from_dict(data)


def test_pickles_the_model_as_it_was_given():
    """Ingestion with several workers pickles its steps."""
    model = Qwen3Embedding(WordEmbedder(), instruction="find code", dimensions=16, embeddings_cache=SimpleKVStore())
    again = pickle.loads(pickle.dumps(model))
    assert again.get_query_embedding("x") == model.get_query_embedding("x")
    assert pickle.loads(pickle.dumps(Qwen3Embedding("tiny", device="cpu"))).to_dict()["model_kwargs"] == {
        "device": "cpu"
    }


def test_a_deep_copy_shares_the_weights():
    model = Qwen3Embedding(WordEmbedder())
    assert copy.deepcopy(model).embedder is model.embedder


def test_as_a_transformation_it_embeds_text_with_metadata():
    core = WordEmbedder()
    node = TextNode(text="body", metadata={"title": "Head"})
    Qwen3Embedding(core)([node])
    assert node.embedding == pytest.approx(core.embed_documents(["title: Head\n\nbody"]).vectors[0].tolist())


def test_default_instruction_is_the_cores():
    assert Qwen3Embedding(WordEmbedder()).embedder.instruction == DEFAULT_INSTRUCTION
