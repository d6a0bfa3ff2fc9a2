"""LangChain's own suites for embeddings."""

from __future__ import annotations

import pytest
from langchain_core.stores import InMemoryByteStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from qwen3_rag.langchain import Qwen3Embeddings
from tests.fakes import WordEmbedder

PARAMS = {
    "plain": {},
    "all settings": {"instruction": "find code", "dimensions": 32, "cache": InMemoryByteStore()},
}


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return Qwen3Embeddings

    @property
    def embedding_model_params(self):
        return {"model": WordEmbedder()}


@pytest.mark.parametrize("settings", PARAMS)
class TestIntegration(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _settings(self, settings):
        self.params = PARAMS[settings]

    @property
    def embeddings_class(self):
        return Qwen3Embeddings

    @property
    def embedding_model_params(self):
        return {"model": WordEmbedder(), **self.params}
