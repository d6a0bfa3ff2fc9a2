"""The adapters over local models: random weights, the real vocabulary, the official computation as reference."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time

import numpy as np
import pytest
from langchain_core.documents import Document

pytest.importorskip("torch")

from qwen3_rag.inference import LocalEmbedder
from qwen3_rag.langchain import Qwen3CrossEncoder, Qwen3Embeddings, Qwen3Reranker, Qwen3Retriever
from qwen3_rag.prompts import query_text
from tests.qwen_models import OfficialEmbedder, OfficialReranker, make_model

TEXTS = ["def f():\n    return 1\n", "| a |\n|---|", "Größe 中文", "how is data stored"]
QUERY = "how is\ndata stored?"


@pytest.fixture(scope="module")
def embedder_folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("embedder"), "embedder")


@pytest.fixture(scope="module")
def reranker_folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("reranker"), "reranker")


@pytest.fixture(scope="module")
def embeddings(embedder_folder):
    return Qwen3Embeddings(embedder_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def reranker(reranker_folder):
    return Qwen3Reranker(reranker_folder, device="cpu", dtype="float32", top_n=None)


def test_vectors_are_the_official_ones(embeddings, embedder_folder):
    official = OfficialEmbedder(embedder_folder)
    assert np.allclose(embeddings.embed_documents(TEXTS), official.embed(TEXTS), atol=1e-5)
    for instruction in (None, "Given code, find its twin"):
        expected = official.embed([query_text(QUERY, *([instruction] if instruction else []))])[0]
        assert np.allclose(embeddings.embed_query(QUERY, instruction=instruction), expected, atol=1e-5)


def test_scores_are_the_official_ones(reranker, reranker_folder):
    documents = [Document(t) for t in TEXTS]
    for instruction in ("Given code, find its twin", "Given a question, find its answer"):
        expected = OfficialReranker(reranker_folder).score(QUERY, TEXTS, instruction)[0]
        ranked = reranker.compress_documents(documents, QUERY, instruction=instruction)
        scores = [d.metadata["relevance_score"] for d in sorted(ranked, key=lambda d: d.metadata["retrieval_rank"])]
        assert np.allclose(scores, np.asarray(expected), atol=1e-5)
        encoder = Qwen3CrossEncoder(reranker_folder, instruction=instruction, device="cpu", dtype="float32")
        assert np.allclose(encoder.score([(QUERY, t) for t in TEXTS]), scores, atol=1e-5)


async def test_async_is_the_same(embeddings, reranker):
    documents = [Document(t) for t in TEXTS]
    assert np.allclose(await embeddings.aembed_documents(TEXTS), embeddings.embed_documents(TEXTS), atol=1e-6)
    assert np.allclose(await embeddings.aembed_query(QUERY), embeddings.embed_query(QUERY), atol=1e-6)
    found, expected = (
        await reranker.acompress_documents(documents, QUERY),
        reranker.compress_documents(documents, QUERY),
    )
    assert [d.page_content for d in found] == [d.page_content for d in expected]


@pytest.mark.parametrize("stage", ["embed", "rerank"])
async def test_the_event_loop_stays_free(embeddings, reranker, stage):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    for size in (100, 400, 1600, 6400):  # until it takes long enough to tell
        texts = [f"{i} " * 60 for i in range(size)]
        began, ticks = time.perf_counter(), 0
        if stage == "embed":
            await embeddings.aembed_documents(texts)
        else:
            await reranker.acompress_documents([Document(t) for t in texts], QUERY)
        took = time.perf_counter() - began
        if took > 0.3:
            break
    ticker.cancel()
    assert ticks > took / 0.005 / 20


def test_copies_and_pickles_of_a_model_in_use(embeddings):
    vector = embeddings.embed_query(QUERY)
    for twin in (copy.copy(embeddings), copy.deepcopy(embeddings), embeddings.with_instruction("i")):
        assert twin.embedder is embeddings.embedder
    pickled = pickle.dumps(embeddings)
    assert len(pickled) < 2000
    assert pickle.loads(pickled).embed_query(QUERY) == vector
    assert len(repr(embeddings)) < 300


def test_a_ready_made_model_is_not_loaded_by_being_wrapped(tmp_path):
    model = LocalEmbedder("nobody/has-this-model", cache_folder=tmp_path, local_files_only=True)
    assert Qwen3Embeddings(model).embedder is model


def test_a_retriever_end_to_end(embeddings, reranker, tmp_path):
    retriever = Qwen3Retriever.from_texts(TEXTS, embeddings, reranker, uri=tmp_path / "milvus.db", k=3, top_n=2)
    found = retriever.invoke(QUERY)
    assert len(found) == 2
    assert {"relevance_score", "retrieval_score", "retrieval_rank"} <= found[0].metadata.keys()
    assert {d.page_content for d in found} <= set(TEXTS)
    retriever.source.close()
