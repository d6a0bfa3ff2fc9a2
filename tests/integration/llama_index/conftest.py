from __future__ import annotations

import pytest
from llama_index.core import Settings

from qwen3_rag.llama_index import MilvusStore


@pytest.fixture
def store(tmp_path):
    with MilvusStore(tmp_path / "test.db", "nodes") as store:
        yield store


@pytest.fixture(autouse=True)
def _no_global_models():
    """Nothing here may fall back to LlamaIndex's global models, which are OpenAI's."""
    yield
    assert Settings._llm is None
    assert Settings._embed_model is None
