"""LangChain's own suite for vector stores, whole, on a Milvus Lite file and against a Milvus Lite server."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings
from tests.fakes import SparseWordEmbedder


class TestMilvusStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, where):
        with MilvusStore(self.get_embeddings(), sparse="bm25", **where) as store:
            yield store
            store.collection.drop()


class TestMilvusStoreWithoutFullText(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, where):
        with MilvusStore(self.get_embeddings(), sparse=None, **where) as store:
            yield store
            store.collection.drop()


class TestMilvusStoreWithTheModelsSparseVectors(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, where):
        with MilvusStore(Qwen3Embeddings(SparseWordEmbedder()), sparse="model", **where) as store:
            yield store
            store.collection.drop()
