"""The adapters inside langchain_classic's retrievers, and those inside ours."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from qwen3_rag.langchain import Qwen3CrossEncoder, Qwen3Reranker, Qwen3Retriever
from qwen3_rag.langchain.rerankers import RUN_NAME
from tests.fakes import OverlapReranker, WordEmbedder

pytest.importorskip("langchain_classic")

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker

QUERY = "how is data stored"
TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored here", "data", "is"]


@pytest.fixture
def inner():
    return OverlapReranker()


@pytest.fixture
def retriever(tmp_path, inner):
    retriever = Qwen3Retriever.from_texts(TEXTS, WordEmbedder(), inner, uri=tmp_path / "milvus.db")
    yield retriever
    retriever.source.close()


def test_inside_contextual_compression(retriever, inner):
    compression = ContextualCompressionRetriever(
        base_retriever=retriever.source.as_retriever(search_kwargs={"k": 10}), base_compressor=Qwen3Reranker(inner)
    )
    runs = RunCollectorCallbackHandler()
    expected = retriever.invoke(QUERY)
    for document in expected:
        del document.metadata["retrieval_score"]
    assert compression.invoke(QUERY, {"callbacks": [runs]}) == expected
    assert asyncio.run(compression.ainvoke(QUERY)) == expected
    assert [child.name for child in runs.traced_runs[0].child_runs] == ["VectorStoreRetriever", RUN_NAME]


def test_inside_cross_encoder_reranker(retriever, inner):
    compression = ContextualCompressionRetriever(
        base_retriever=retriever.source.as_retriever(search_kwargs={"k": 10}),
        base_compressor=CrossEncoderReranker(model=Qwen3CrossEncoder(inner), top_n=3),
    )
    assert [d.id for d in compression.invoke(QUERY)] == [d.id for d in retriever.invoke(QUERY)]


def test_around_contextual_compression(retriever, inner):
    compression = ContextualCompressionRetriever(
        base_retriever=retriever.source.as_retriever(search_kwargs={"k": 10}),
        base_compressor=Qwen3Reranker(inner, top_n=5),
    )
    assert len(Qwen3Retriever(compression, inner, top_n=2).invoke(QUERY)) == 2
