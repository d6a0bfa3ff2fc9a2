"""The cache must give exactly what the embedder gives, and never one text's vector for another question."""

from __future__ import annotations

import asyncio
import itertools
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.cache import CachedEmbedder, cache_key
from qwen3_rag.errors import ConfigurationError, InputError, TruncationWarning
from qwen3_rag.types import Embedder, EmbeddingResult, Truncation
from tests.fakes import WordEmbedder


class DictStorage:
    """A dict that counts, and knows which threads used it."""

    def __init__(self):
        self.data = {}
        self.reads = self.writes = 0
        self.threads = set()

    def mget(self, keys):
        self.reads += 1
        self.threads.add(threading.get_ident())
        return [self.data.get(key) for key in keys]

    def mset(self, key_value_pairs):
        self.writes += 1
        self.threads.add(threading.get_ident())
        self.data.update(key_value_pairs)


class CuttingEmbedder(WordEmbedder):
    """Keeps five words and says so."""

    def _embed(self, texts, dimensions):
        result = super()._embed([" ".join(t.split()[:5]) for t in texts], dimensions)
        lengths = [len(t.split()) for t in texts]
        cut = tuple(Truncation(i, "text", n, 5) for i, n in enumerate(lengths) if n > 5)
        return EmbeddingResult(result.vectors, result.tokens, cut)


@pytest.fixture
def inner():
    return WordEmbedder()


@pytest.fixture
def storage():
    return DictStorage()


@pytest.fixture
def cached(inner, storage):
    return CachedEmbedder(inner, storage)


def test_is_an_embedder_with_the_inner_ones_properties(cached, inner):
    assert isinstance(cached, Embedder)
    assert (cached.model_id, cached.dimensions, cached.instruction) == (
        inner.model_id,
        inner.dimensions,
        inner.instruction,
    )


@pytest.mark.parametrize("method", ["embed_documents", "embed_queries"])
def test_a_hit_is_bitwise_the_vector_and_costs_nothing(cached, inner, method):
    first = getattr(cached, method)(["a b", "c"])
    calls = len(inner.calls)
    again = getattr(cached, method)(["c", "a b"])
    expected = getattr(WordEmbedder(), method)(["a b", "c"])
    assert len(inner.calls) == calls == 1
    assert first.vectors.tobytes() == expected.vectors.tobytes()
    assert again.vectors.tobytes() == expected.vectors[::-1].tobytes()
    assert first.vectors.dtype == again.vectors.dtype == np.float32
    assert first.tokens == expected.tokens > 0
    assert again.tokens == 0


def test_only_what_is_missing_is_embedded_once_and_in_one_call(cached, inner):
    cached.embed_documents(["old"])
    result = cached.embed_documents(["new", "old", "newer", "new"])
    assert [texts for _, texts, _ in inner.calls] == [("old",), ("new", "newer")]
    assert np.array_equal(result.vectors, WordEmbedder().embed_documents(["new", "old", "newer", "new"]).vectors)


def test_the_result_is_the_callers_own(cached):
    first = cached.embed_documents(["a"])
    kept = first.vectors.copy()
    first.vectors[:] = 7
    assert np.array_equal(cached.embed_documents(["a"]).vectors, kept)


def test_document_and_query_with_equal_text_never_share_an_entry(cached):
    document = cached.embed_documents(["what is milvus"]).vectors
    query = cached.embed_queries(["what is milvus"]).vectors
    assert not np.allclose(document, query)
    assert np.array_equal(cached.embed_documents(["what is milvus"]).vectors, document)


def test_two_instructions_never_share_an_entry(cached):
    general = cached.embed_queries(["q"]).vectors
    code = cached.embed_queries(["q"], instruction="find code").vectors
    assert not np.allclose(general, code)


def test_two_dimensions_never_share_an_entry(cached):
    assert cached.embed_documents(["q"], dimensions=32).vectors.shape == (1, 32)
    assert cached.embed_documents(["q"]).vectors.shape == (1, 64)
    assert np.allclose(np.linalg.norm(cached.embed_documents(["q"], dimensions=32).vectors), 1)


def test_two_models_on_one_storage_never_share_an_entry(storage):
    first, second = WordEmbedder(model_id="a"), WordEmbedder(model_id="b")
    CachedEmbedder(first, storage).embed_documents(["q"])
    CachedEmbedder(second, storage).embed_documents(["q"])
    assert len(second.calls) == 1
    assert len(storage.data) == 2


def test_the_default_spelled_out_is_the_same_entry(cached, inner):
    cached.embed_queries(["q"])
    cached.embed_queries(["q"], instruction=inner.instruction, dimensions=inner.dimensions)
    assert len(inner.calls) == 1


def test_every_ingredient_changes_the_key():
    ingredients = itertools.product(("m", "n"), (32, 64), ("document", "query"), (None, "i", "j"), ("t", "t\n", ""))
    keys = [cache_key(*parts) for parts in ingredients]
    assert len(set(keys)) == len(keys) == 72


def test_texts_that_json_escapes_alike_have_their_own_keys():
    emoji, surrogates = "\U0001f600", "\ud83d\ude00"
    assert cache_key("m", 1, "document", None, emoji) != cache_key("m", 1, "document", None, surrogates)


def test_the_key_is_stable_between_versions():
    key = cache_key("tiny", 64, "query", "i", "Größe")
    assert key == "c172e639878830004900a402259f910541bb8e90730ee3fb34464e50364dfb23"


@pytest.mark.parametrize("damage", [b"", b"1234", b"\0" * (4 * 64), b"\0" * (4 * 64 + 12)])
def test_bytes_of_another_length_are_a_miss_and_are_replaced(cached, storage, damage):
    expected = cached.embed_documents(["a"]).vectors
    (key,) = storage.data
    good, storage.data[key] = storage.data[key], damage
    assert np.array_equal(cached.embed_documents(["a"]).vectors, expected)
    assert storage.data[key] == good


def test_a_hit_reports_the_truncation_that_the_miss_reported(storage):
    cached = CachedEmbedder(CuttingEmbedder(), storage)
    long = "one two three four five six seven"
    miss = cached.embed_documents(["short", long])
    with pytest.warns(TruncationWarning, match="1 of the cached texts"):
        hit = cached.embed_documents([long, "short", long])
    assert [(t.index, t.tokens, t.kept, t.lost) for t in miss.truncated] == [(1, 7, 5, 2)]
    assert [(t.index, t.tokens, t.kept) for t in hit.truncated] == [(0, 7, 5), (2, 7, 5)]
    assert {t.part for t in (*miss.truncated, *hit.truncated)} == {"document"}


def test_untouched_texts_give_no_warning(cached):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached.embed_documents(["a"])
        assert cached.embed_documents(["a"]).truncated == ()


def test_no_texts_ask_nobody(cached, inner, storage):
    assert cached.embed_documents([]).vectors.shape == (0, 64)
    assert cached.embed_queries([], dimensions=32).vectors.shape == (0, 32)
    assert (storage.reads, storage.writes, inner.calls) == (0, 0, [])


def test_a_failure_stores_nothing(cached, inner, storage, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(inner, "_embed", fail)
    with pytest.raises(MemoryError):
        cached.embed_documents(["a"])
    assert storage.data == {}


@pytest.mark.parametrize("texts", ["abc", b"abc", ["a", 3], ["a", None], None, (text for text in ["a"])])
def test_what_is_no_list_of_strings_is_refused(cached, texts):
    with pytest.raises(InputError, match=r"string|text 1"):
        cached.embed_documents(texts)


class Closable(WordEmbedder):
    """Counts what it is asked to do beside embedding."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def warm_up(self):
        self.asked.append("warm_up")
        return self

    def close(self):
        self.asked.append("close")


def test_warming_up_and_closing_reach_the_embedder(storage):
    inner = Closable()
    with CachedEmbedder(inner, storage).warm_up() as cached:
        cached.embed_documents(["a"])
    assert inner.asked == ["warm_up", "close"]


def test_an_embedder_with_nothing_to_close_is_fine(cached):
    assert cached.warm_up() is cached
    cached.close()


@pytest.mark.parametrize("width", [-1, 0, 1.5, "64", True])
def test_a_width_that_can_not_be_one_is_refused_with_and_without_texts(cached, width):
    for texts in (["a"], []):
        with pytest.raises(ConfigurationError, match="dimensions"):
            cached.embed_documents(texts, dimensions=width)
        with pytest.raises(ConfigurationError, match="dimensions"):
            cached.embed_queries(texts, dimensions=width)


@pytest.mark.parametrize("instruction", ["", 5, object()])
def test_an_instruction_that_can_not_be_one_is_refused(cached, instruction):
    with pytest.raises(ConfigurationError, match="instruction"):
        cached.embed_queries(["a"], instruction=instruction)


@pytest.mark.parametrize("storage", [{}, None, object()])
def test_what_is_no_storage_is_refused(inner, storage):
    with pytest.raises(ConfigurationError, match="mget and mset"):
        CachedEmbedder(inner, storage)


def test_repr_is_short(cached):
    cached.embed_documents(["word " * 1000])
    assert repr(cached) == "CachedEmbedder(WordEmbedder, DictStorage)"


@pytest.mark.parametrize("role", ["documents", "queries"])
async def test_async_gives_the_same_and_keeps_the_storage_off_the_loop(inner, role):
    storage, twin = DictStorage(), DictStorage()
    a, b = CachedEmbedder(inner, storage), CachedEmbedder(WordEmbedder(), twin)
    for texts in (["x"], ["y", "x", "y"], []):
        result = await getattr(a, f"aembed_{role}")(texts)
        expected = getattr(b, f"embed_{role}")(texts)
        assert np.array_equal(result.vectors, expected.vectors)
        assert result.tokens == expected.tokens
    assert storage.data == twin.data
    assert storage.threads
    assert threading.get_ident() not in storage.threads


async def test_many_async_calls_at_once(inner):
    cached = CachedEmbedder(inner, DictStorage())
    results = await asyncio.gather(*(cached.aembed_documents([f"t{i % 3}", "t0"]) for i in range(20)))
    for i, result in enumerate(results):
        assert np.array_equal(result.vectors, WordEmbedder().embed_documents([f"t{i % 3}", "t0"]).vectors)


@pytest.mark.parametrize("store", ["InMemoryByteStore", "LocalFileStore"])
def test_langchain_byte_stores_fit(inner, tmp_path, store):
    storages = pytest.importorskip("langchain_classic.storage")
    storage = storages.LocalFileStore(tmp_path) if store == "LocalFileStore" else storages.InMemoryByteStore()
    first = CachedEmbedder(inner, storage).embed_queries(["a", "ä\n中"]).vectors
    second = CachedEmbedder(inner, storage).embed_queries(["a", "ä\n中"]).vectors
    assert len(inner.calls) == 1
    assert first.tobytes() == second.tobytes()


calls = st.tuples(
    st.sampled_from(["document", "query"]),
    st.lists(st.sampled_from(["a", "b", "a b", "", "\n", "中"]), max_size=5),
    st.sampled_from([None, "i", "j"]),
    st.sampled_from([None, 32, 64]),
)


@given(st.lists(calls, max_size=6))
def test_any_history_of_calls_gives_what_the_embedder_gives(history):
    plain, cached = WordEmbedder(), CachedEmbedder(WordEmbedder(), DictStorage())
    for role, texts, instruction, dimensions in history:
        if role == "document":
            result = cached.embed_documents(texts, dimensions=dimensions)
            expected = plain.embed_documents(texts, dimensions=dimensions)
        else:
            result = cached.embed_queries(texts, instruction=instruction, dimensions=dimensions)
            expected = plain.embed_queries(texts, instruction=instruction, dimensions=dimensions)
        assert result.vectors.tobytes() == expected.vectors.tobytes()
        assert result.vectors.shape == expected.vectors.shape
