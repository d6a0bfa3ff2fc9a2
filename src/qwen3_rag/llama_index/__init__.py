"""LlamaIndex adapters: `Qwen3Embedding`, `Qwen3Rerank`, `MilvusStore`, `Qwen3Retriever`, `Qwen3LLM`, `create_query_engine`.

They only convert types; what they do is in the framework-free core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_rag.errors import missing_dependency

try:
    import llama_index.core  # noqa: F401
except ImportError as error:
    raise missing_dependency("llama-index-core", "llama-index") from error

from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.node_splitting import node_parser_splitter
from qwen3_rag.llama_index.postprocessors import Qwen3Rerank
from qwen3_rag.llama_index.retrievers import Qwen3Retriever
from qwen3_rag.llama_index.vector_stores import MilvusStore

if TYPE_CHECKING:
    from qwen3_rag.llama_index.deep_search import create_deep_search_engine
    from qwen3_rag.llama_index.llms import Qwen3LLM
    from qwen3_rag.llama_index.query_engines import create_query_engine

__all__ = [
    "MilvusStore",
    "Qwen3Embedding",
    "Qwen3LLM",
    "Qwen3Rerank",
    "Qwen3Retriever",
    "create_deep_search_engine",
    "create_query_engine",
    "node_parser_splitter",
]


def __getattr__(name: str) -> Any:
    if name == "create_query_engine":
        from qwen3_rag.llama_index.query_engines import create_query_engine

        return create_query_engine
    if name == "create_deep_search_engine":
        from qwen3_rag.llama_index.deep_search import create_deep_search_engine

        return create_deep_search_engine
    if name != "Qwen3LLM":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:  # brings the openai package, which those who only embed and rerank don't need
        from qwen3_rag.llama_index.llms import Qwen3LLM
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("llama_index.llms", "openai")):
            raise
        raise missing_dependency("llama-index-llms-openai-like", "llama-index") from error
    return Qwen3LLM
