"""A key given to an adapter is in no repr, dictionary, serialised form or pickle of it."""

from __future__ import annotations

import copy
import pickle

import pytest

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.milvus import MilvusCollection

KEY = "sk-very-secret"


def adapters():
    from qwen3_rag.langchain import Qwen3CrossEncoder, Qwen3Embeddings, Qwen3Reranker

    options = {"api_key": KEY, "headers": {"X-Token": KEY}}
    yield Qwen3Embeddings("dashscope:text-embedding-v4", **options)
    yield Qwen3Reranker("dashscope:qwen3-rerank", **options)
    yield Qwen3CrossEncoder("dashscope:qwen3-rerank", **options)
    try:
        from qwen3_rag.llama_index import Qwen3Embedding, Qwen3Rerank
    except ImportError:
        return
    yield Qwen3Embedding("dashscope:text-embedding-v4", **options)
    yield Qwen3Rerank("dashscope:qwen3-rerank", **options)


@pytest.mark.parametrize("adapter", list(adapters()), ids=lambda adapter: type(adapter).__name__)
def test_no_key_leaves_an_adapter(adapter, monkeypatch):
    shown = [repr(adapter), str(adapter.model_dump()), pickle.dumps(adapter).decode("latin-1")]
    if hasattr(adapter, "to_dict"):
        shown.append(str(adapter.to_dict()))
    assert not [text for text in shown if KEY in text]
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-other")
    assert type(pickle.loads(pickle.dumps(adapter))) is type(adapter)


def test_a_token_of_a_database_is_copied_but_not_pickled():
    collection = MilvusCollection("http://localhost:19530", token=KEY)
    with pytest.raises(ConfigurationError, match="must not get into a pickle") as caught:
        pickle.dumps(collection)
    assert KEY not in str(caught.value)
    assert copy.deepcopy(collection).name == collection.name
    assert pickle.loads(pickle.dumps(MilvusCollection("http://localhost:19530"))).name == collection.name
