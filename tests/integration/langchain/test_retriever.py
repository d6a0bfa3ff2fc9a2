"""`Qwen3Retriever` over Milvus."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time

import pytest
from langchain_core.documents import Document

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings, Qwen3Reranker, Qwen3Retriever
from tests.fakes import OverlapReranker, WordEmbedder

QUERY = "how is data stored"
TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here"] + [
    f"filler number {i} data" for i in range(12)
]
METADATAS = [{"n": i, "even": i % 2 == 0} for i in range(len(TEXTS))]


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.fixture
def retriever(where, embedder, inner):
    retriever = Qwen3Retriever.from_texts(TEXTS, embedder, inner, metadatas=METADATAS, **where)
    yield retriever
    retriever.source.collection.drop()
    retriever.source.close()


def test_from_texts_end_to_end(retriever):
    dense = retriever.source.similarity_search_with_score(QUERY, k=10)
    found = retriever.invoke(QUERY)
    assert [d.page_content for d in found][:2] == ["how is data stored here", "data is stored in segments"]
    for document in found:
        original, score = dense[document.metadata["retrieval_rank"] - 1]
        added = {key: document.metadata.pop(key) for key in ("relevance_score", "retrieval_score", "retrieval_rank")}
        assert document == original
        assert added["retrieval_score"] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_one_in_use_can_be_copied_and_pickled(retriever, duplicate):
    found = retriever.invoke(QUERY)
    twin = duplicate(retriever)
    # Not the scores: their last digit changes when Milvus Lite has built its index, some time after a write.
    assert [d.id for d in twin.invoke(QUERY)] == [d.id for d in found]
    twin.source.close()
    assert [d.id for d in retriever.invoke(QUERY)] == [d.id for d in found]


def test_every_argument_acts(retriever, embedder, inner):
    retriever.invoke(QUERY, k=12, top_n=5, instruction="invert", filter={"even": True})
    assert embedder.calls[-1] == ("query", (QUERY,), "invert")
    (_, candidates, instruction) = inner.calls[-1]
    assert instruction == "invert"
    assert set(candidates) == set(TEXTS[::2])
    with pytest.raises(ConfigurationError, match="'expr'"):
        retriever.invoke(QUERY, expr="n > 1")


def test_an_instruction_keeps_both_scores(retriever):
    plain, other = retriever.invoke(QUERY), retriever.invoke(QUERY, instruction="about cooking")
    scores = [found[0].metadata["retrieval_score"] for found in (plain, other)]
    assert abs(scores[0] - scores[1]) > 1e-3


async def test_async_is_the_same(retriever, same):
    for arguments in ({}, {"instruction": "invert"}, {"filter": {"n": {"$lt": 3}}, "top_n": None}):
        assert same(await retriever.ainvoke(QUERY, **arguments), retriever.invoke(QUERY, **arguments))


async def test_the_constructors_agree(tmp_path, embedder, inner, same):
    documents = [Document(t, metadata=m) for t, m in zip(TEXTS, METADATAS, strict=True)]
    uri = {"uri": tmp_path / "milvus.db", "k": 5, "top_n": 2}
    made = [
        Qwen3Retriever.from_texts(TEXTS, embedder, inner, metadatas=METADATAS, collection="a", **uri),
        await Qwen3Retriever.afrom_texts(TEXTS, embedder, inner, metadatas=METADATAS, collection="b", **uri),
        Qwen3Retriever.from_documents(documents, embedder, inner, collection="c", **uri),
        await Qwen3Retriever.afrom_documents(documents, embedder, inner, collection="d", **uri),
        Qwen3Retriever.from_collection("a", embedder, inner, **uri),
    ]
    expected = made[0].invoke(QUERY)
    assert len(expected) == 2
    for retriever in made:
        assert same(retriever.invoke(QUERY), expected)
    assert {len(c) for _, c, _ in inner.calls} == {5}
    made[-1].source.close()


def test_running_a_script_twice_does_not_double_the_collection(tmp_path, embedder, inner):
    for _ in range(2):
        retriever = Qwen3Retriever.from_texts(TEXTS, embedder, inner, uri=tmp_path / "milvus.db")
        assert retriever.source.collection.count() == len(TEXTS)
        retriever.source.close()


def test_a_bad_option_costs_no_embedding(tmp_path, embedder, inner):
    for bad in ({"k": 0}, {"metric": "L1"}, {"collection": "no name"}):
        with pytest.raises(ConfigurationError):
            Qwen3Retriever.from_texts(TEXTS, embedder, inner, uri=tmp_path / "milvus.db", **bad)
    with pytest.raises(ValueError, match="topn"):
        Qwen3Retriever.from_texts(TEXTS, embedder, inner, uri=tmp_path / "milvus.db", topn=3)
    assert embedder.calls == []
    assert list(tmp_path.iterdir()) == []


class Slow(WordEmbedder):
    """Works in a thread, as the local models do."""

    def embed_queries(self, texts, *, instruction=None, dimensions=None):
        time.sleep(0.3)
        return super().embed_queries(texts, instruction=instruction, dimensions=dimensions)

    async def aembed_queries(self, texts, *, instruction=None, dimensions=None):
        return await asyncio.to_thread(self.embed_queries, texts, instruction=instruction, dimensions=dimensions)


async def test_retrieval_does_not_block_the_event_loop(tmp_path, inner):
    retriever = await Qwen3Retriever.afrom_texts(TEXTS, Slow(), inner, uri=tmp_path / "milvus.db")
    gaps, last = [], time.perf_counter()

    async def tick():
        nonlocal last
        while True:
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    ticker = asyncio.create_task(tick())
    await asyncio.gather(*(retriever.ainvoke(QUERY) for _ in range(2)))
    ticker.cancel()
    retriever.source.close()
    assert len(gaps) >= 5
    assert max(gaps) < 0.25


def test_it_is_made_of_parts_that_can_be_shared(tmp_path, embedder, inner):
    embeddings, reranker = Qwen3Embeddings(embedder), Qwen3Reranker(inner)
    store = MilvusStore(embeddings, uri=tmp_path / "milvus.db")
    first, second = Qwen3Retriever(store, reranker), Qwen3Retriever(store, reranker.with_instruction("invert"))
    assert first.reranker.reranker is second.reranker.reranker is inner
    assert first.source is second.source
