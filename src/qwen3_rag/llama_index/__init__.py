"""LlamaIndex adapters: `Qwen3Embedding`, `Qwen3Rerank`, `MilvusStore`, `Qwen3Retriever`.

They only convert types; what they do is in the framework-free core.
"""

from __future__ import annotations

from qwen3_rag.errors import missing_dependency

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise missing_dependency("llama-index-core", "llama-index") from error

from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.postprocessors import Qwen3Rerank
from qwen3_rag.llama_index.retrievers import Qwen3Retriever
from qwen3_rag.llama_index.vector_stores import MilvusStore

__all__ = ["MilvusStore", "Qwen3Embedding", "Qwen3Rerank", "Qwen3Retriever"]
