"""LangChain's own suite for retrievers, on `Qwen3Retriever` over Milvus and over a retriever."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from qwen3_rag.langchain import MilvusStore, Qwen3Retriever
from tests.fakes import OverlapReranker, WordEmbedder

TEXTS = ["bread needs yeast", "data is stored in segments", "how data flows", "how is data stored", "yeast is alive"]


class OverMilvus(RetrieversIntegrationTests):
    def source(self, store):
        return store

    @pytest.fixture(autouse=True)
    def _filled(self, tmp_path):
        with MilvusStore(WordEmbedder(), uri=tmp_path / "milvus.db") as store:
            store.add_texts(TEXTS)
            self.store = store
            yield

    @property
    def retriever_constructor(self):
        return Qwen3Retriever

    @property
    def retriever_constructor_params(self):
        return {"source": self.source(self.store), "reranker": OverlapReranker()}

    @property
    def retriever_query_example(self):
        return "how is data stored"


class TestOverAStore(OverMilvus):
    pass


class TestOverARetriever(OverMilvus):
    def source(self, store):
        return store.as_retriever()


class TestOverItself(OverMilvus):
    def source(self, store):
        return Qwen3Retriever(store, OverlapReranker(), top_n=5)


class OverAMode(OverMilvus):
    mode = "dense"

    @property
    def retriever_constructor_params(self):
        return {**super().retriever_constructor_params, "mode": self.mode}


class TestSparse(OverAMode):
    mode = "sparse"


class TestHybrid(OverAMode):
    mode = "hybrid"


class TestDense(OverAMode):
    pass


class TestOverMany(OverAMode):
    mode = "hybrid"

    def source(self, store):
        return {"one": store, "two": store}
