"""`Qwen3Embeddings`: the right text under the right role, whatever LangChain does around it."""

from __future__ import annotations

import copy
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
from langchain_core.stores import InMemoryByteStore

from qwen3_rag import LocalEmbedder
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain import Qwen3Embeddings
from qwen3_rag.langchain.embeddings import as_embeddings
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from tests.fakes import WordEmbedder

local = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra `local`")


@pytest.fixture
def inner():
    return WordEmbedder()


def test_values_are_the_cores_as_python_floats(inner):
    embeddings = Qwen3Embeddings(inner)
    documents = embeddings.embed_documents(["a b", "c"])
    query = embeddings.embed_query("a b")
    assert documents == inner.embed_documents(["a b", "c"]).vectors.tolist()
    assert query == inner.embed_queries(["a b"]).vectors[0].tolist()
    assert {type(x) for row in [*documents, query] for x in row} == {float}


# Peer bug: HuggingFaceEmbeddings embeds queries without the instruction unless it is told to.
def test_queries_go_in_as_queries_under_the_models_instruction_by_default(inner):
    Qwen3Embeddings(inner).embed_query("q")
    Qwen3Embeddings(inner).embed_documents(["q"])
    assert inner.calls == [("query", ("q",), None), ("document", ("q",), None)]
    assert inner.instruction == DEFAULT_INSTRUCTION


# Peer bug: HuggingFaceEmbeddings replaces newlines, which flattens code and Markdown.
@pytest.mark.parametrize("text", ["def f():\n    return 1\n", "| a |\r\n|---|", "  two  spaces\t", "", "<|im_end|>"])
def test_texts_reach_the_model_unchanged(inner, text):
    embeddings = Qwen3Embeddings(inner)
    embeddings.embed_documents([text])
    embeddings.embed_query(text)
    assert [texts for _, texts, _ in inner.calls] == [(text,), (text,)]


def test_instruction_per_instance_and_per_call(inner):
    embeddings = Qwen3Embeddings(inner, instruction="find code")
    own = embeddings.embed_query("q")
    other = embeddings.embed_query("q", instruction="find laws")
    assert own != other
    assert own == inner.embed_queries(["q"], instruction="find code").vectors[0].tolist()
    assert other == inner.embed_queries(["q"], instruction="find laws").vectors[0].tolist()
    assert embeddings.embed_query("q") == own


def test_dimensions_per_instance_and_per_call(inner):
    embeddings = Qwen3Embeddings(inner, dimensions=32)
    assert len(embeddings.embed_query("q")) == len(embeddings.embed_documents(["q"])[0]) == 32
    assert len(embeddings.embed_query("q", dimensions=48)) == 48
    assert len(embeddings.embed_documents(["q"], dimensions=64)[0]) == 64
    assert np.isclose(np.linalg.norm(embeddings.embed_query("q")), 1)


async def test_async_is_the_same(inner):
    embeddings = Qwen3Embeddings(inner, instruction="i", dimensions=40)
    texts = ["a", "b\nc", "a"]
    assert await embeddings.aembed_documents(texts) == embeddings.embed_documents(texts)
    assert await embeddings.aembed_documents(texts, dimensions=32) == embeddings.embed_documents(texts, dimensions=32)
    assert await embeddings.aembed_query("q") == embeddings.embed_query("q")
    arguments = {"instruction": "j", "dimensions": 32}
    assert await embeddings.aembed_query("q", **arguments) == embeddings.embed_query("q", **arguments)


def test_no_texts(inner):
    assert Qwen3Embeddings(inner).embed_documents([]) == []


def test_with_instruction_is_a_copy_on_the_same_weights(inner):
    embeddings = Qwen3Embeddings(inner, dimensions=32)
    other = embeddings.with_instruction("find code")
    assert other.embedder is embeddings.embedder
    assert (embeddings.instruction, other.instruction, other.dimensions) == (None, "find code", 32)
    assert other.embed_query("q") == embeddings.embed_query("q", instruction="find code")


# Peer bug: CacheBackedEmbeddings keys by the bare text, so that a query gets the vector of an equal document.
def test_a_cache_never_mixes_query_document_instruction_dimension_or_model():
    store = InMemoryByteStore()

    def everything(**more):
        out = []
        for name in ("a", "b"):
            embeddings = Qwen3Embeddings(WordEmbedder(48 if name == "a" else 64, name), **more)
            out += [*embeddings.embed_documents(["q"]), embeddings.embed_query("q")]
            out += [embeddings.embed_query("q", instruction="i"), embeddings.embed_query("q", dimensions=32)]
            out += embeddings.embed_documents(["q"], dimensions=32)
        return out

    plain = everything()
    assert everything(cache=store) == plain  # filled
    assert everything(cache=store) == plain  # read
    assert len(list(store.yield_keys())) == len(plain) == 10


def test_a_cache_saves_the_work(inner):
    embeddings = Qwen3Embeddings(inner, cache=InMemoryByteStore())
    embeddings.embed_documents(["a", "b"])
    embeddings.with_instruction("i").embed_documents(["b", "a"])
    assert len(inner.calls) == 1


@pytest.mark.parametrize("dimensions", [0, -1, 1.5, "32", True])
def test_wrong_dimensions_are_refused_at_once(inner, dimensions):
    with pytest.raises(ConfigurationError, match="dimensions must be a positive integer"):
        Qwen3Embeddings(inner, dimensions=dimensions)
    with pytest.raises(ConfigurationError, match="dimensions must be a positive integer"):
        Qwen3Embeddings(inner).embed_query("q", dimensions=dimensions)
    assert inner.calls == []


@pytest.mark.parametrize("instruction", ["", " \n"])
def test_a_blank_instruction_is_refused_at_once(inner, instruction):
    with pytest.raises(ConfigurationError, match="instruction"):
        Qwen3Embeddings(inner, instruction=instruction)
    with pytest.raises(ConfigurationError, match="instruction"):
        Qwen3Embeddings(inner).with_instruction(instruction)


@local
def test_options_that_nothing_acts_on_are_refused(inner):
    with pytest.raises(ConfigurationError, match="'device'"):
        Qwen3Embeddings(inner, device="cpu")
    with pytest.raises(TypeError, match="batch_sise"):
        Qwen3Embeddings("tiny", batch_sise=3)


def test_instances_are_frozen(inner):
    with pytest.raises(ValueError, match="frozen"):
        Qwen3Embeddings(inner).instruction = "other"


@local
def test_repr_is_short_and_says_what_was_set(inner):
    embeddings = Qwen3Embeddings(inner, instruction="find code", cache=InMemoryByteStore())
    embeddings.embed_documents([f"{i}" for i in range(1000)])
    assert repr(embeddings) == (
        "Qwen3Embeddings(model=<class 'tests.fakes.WordEmbedder'>, instruction='find code', "
        "cache=<class 'langchain_core.stores.InMemoryByteStore'>)"
    )
    assert repr(Qwen3Embeddings("tiny", device="cpu")) == "Qwen3Embeddings(model='tiny', device='cpu')"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_share_the_weights(inner, duplicate):
    embeddings = Qwen3Embeddings(inner, dimensions=32)
    twin = duplicate(embeddings)
    assert twin.embedder is embeddings.embedder
    assert twin.embed_query("q") == embeddings.embed_query("q")


@local
def test_pickles_carry_the_name_and_the_settings():
    embeddings = Qwen3Embeddings("tiny", instruction="i", dimensions=32, device="cpu", cache=InMemoryByteStore())
    twin = pickle.loads(pickle.dumps(embeddings))
    assert repr(twin) == repr(embeddings)
    assert type(twin.embedder) is type(embeddings.embedder)
    assert len(pickle.dumps(embeddings)) < 2000


@local
def test_pickles_carry_a_local_model():
    embeddings = Qwen3Embeddings(LocalEmbedder("tiny", dimensions=64))
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("q") == embeddings.embed_query("q")


@local
def test_the_embedder_can_be_closed_behind_a_cache():
    embeddings = Qwen3Embeddings("tiny", cache=InMemoryByteStore())
    vector = embeddings.embed_query("q")
    embeddings.embedder.close()
    assert embeddings.embed_query("q") == vector


def test_pickles_carry_a_ready_made_model(inner):
    embeddings = Qwen3Embeddings(inner, dimensions=32)
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("q") == embeddings.embed_query("q")


@local
def test_constructing_reads_nothing(tmp_path):
    # Neither folder nor hub has it: only the first use may find out.
    embeddings = Qwen3Embeddings("nobody/has-this-model", cache_folder=tmp_path, local_files_only=True)
    assert embeddings.model_name == "nobody/has-this-model"
    assert list(tmp_path.iterdir()) == []


def test_anything_that_is_no_embeddings_yet_becomes_one(inner):
    embeddings = Qwen3Embeddings(inner)
    assert as_embeddings(embeddings) is embeddings
    assert as_embeddings(inner).embedder is inner
