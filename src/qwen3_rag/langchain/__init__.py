"""Qwen3 embedding, reranking, retrieval and chat in LangChain's own interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_rag.errors import missing_dependency

try:
    import langchain_core  # noqa: F401 - says at once which extra is missing
except ImportError as error:
    raise missing_dependency("langchain-core", "langchain") from error

from qwen3_rag.langchain._chat_cache import cache_prefix
from qwen3_rag.langchain.embeddings import Qwen3Embeddings
from qwen3_rag.langchain.rerankers import Qwen3CrossEncoder, Qwen3Reranker
from qwen3_rag.langchain.retrievers import Qwen3Retriever
from qwen3_rag.langchain.vectorstores import MilvusStore

if TYPE_CHECKING:
    from qwen3_rag.langchain.chains import create_rag_chain
    from qwen3_rag.langchain.chat_models import ChatQwen3
    from qwen3_rag.langchain.deep_search import create_deep_search

__all__ = [
    "ChatQwen3",
    "MilvusStore",
    "Qwen3CrossEncoder",
    "Qwen3Embeddings",
    "Qwen3Reranker",
    "Qwen3Retriever",
    "cache_prefix",
    "create_deep_search",
    "create_rag_chain",
]


def __getattr__(name: str) -> Any:
    if name == "ChatQwen3":  # brings the openai package, which those who only embed and rerank don't need
        from qwen3_rag.langchain.chat_models import ChatQwen3

        return ChatQwen3
    if name == "create_rag_chain":
        from qwen3_rag.langchain.chains import create_rag_chain

        return create_rag_chain
    if name == "create_deep_search":
        from qwen3_rag.langchain.deep_search import create_deep_search

        return create_deep_search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
