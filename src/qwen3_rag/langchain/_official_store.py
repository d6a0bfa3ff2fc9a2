"""How a retriever asks `langchain_milvus.Milvus`, LangChain's own store on Milvus."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from langchain_core.vectorstores import VectorStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain.embeddings import Qwen3Embeddings

_MIN_FETCH = 50
_FETCH_FACTOR = 4


def is_official_milvus(store: VectorStore) -> bool:
    """Whether a store is one; `langchain_milvus` is not imported for that."""
    module = sys.modules.get("langchain_milvus")  # a store of that kind can't be there before its module is
    return module is not None and isinstance(store, module.Milvus)


def official_arguments(store: Any, instruction: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the store needs to be told so that it neither ignores nor forgets anything.

    Raises:
        ConfigurationError: If it would all the same.
    """
    if "filter" in arguments:
        raise ConfigurationError(
            "langchain_milvus.Milvus ignores filter in a hybrid search: give it as "
            "expr=qwen3_rag.milvus.compile_filter(…), or use a MilvusStore"
        )
    if len(store.vector_fields) == 1:
        return dict(arguments)
    if instruction is not None and isinstance(store.embeddings, Qwen3Embeddings):
        raise ConfigurationError(
            f"instruction={instruction!r} can't reach the embedding of a hybrid search of langchain_milvus.Milvus: give it "
            "to Qwen3Embeddings and to Qwen3Reranker"
        )
    # By itself it fuses the 4 best of each leg, and by a weighted sum of numbers that don't compare.
    ranker = {} if "reranker" in arguments or "ranker_type" in arguments else {"ranker_type": "rrf"}
    return {"fetch_k": max(_MIN_FETCH, _FETCH_FACTOR * arguments["k"]), **ranker, **arguments}
