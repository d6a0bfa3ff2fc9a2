"""Qwen3 embedding, reranking and retrieval in LangChain's own interfaces."""

from __future__ import annotations

from qwen3_rag.errors import missing_dependency

try:
    import langchain_core  # noqa: F401 - says at once which extra is missing
except ImportError as error:
    raise missing_dependency("langchain-core", "langchain") from error

from qwen3_rag.langchain.embeddings import Qwen3Embeddings
from qwen3_rag.langchain.rerankers import Qwen3CrossEncoder, Qwen3Reranker
from qwen3_rag.langchain.retrievers import Qwen3Retriever
from qwen3_rag.langchain.vectorstores import MilvusStore

__all__ = ["MilvusStore", "Qwen3CrossEncoder", "Qwen3Embeddings", "Qwen3Reranker", "Qwen3Retriever"]
