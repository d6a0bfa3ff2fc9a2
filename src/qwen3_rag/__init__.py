"""Exact, fast Qwen3 embedding and reranking for LangChain and LlamaIndex, over Milvus.

Names are resolved on first use, so that `import qwen3_rag` costs nothing: the frameworks' adapters live in
`qwen3_rag.langchain` and `qwen3_rag.llama_index`, the framework-free core here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qwen3_rag.version import package_version

if TYPE_CHECKING:
    from qwen3_rag.backends import load_embedder, load_reranker
    from qwen3_rag.inference import LocalEmbedder, LocalReranker
    from qwen3_rag.milvus import MilvusCollection
    from qwen3_rag.remote import RemoteEmbedder, RemoteReranker

_HOME = {
    "LocalEmbedder": "qwen3_rag.inference",
    "LocalReranker": "qwen3_rag.inference",
    "MilvusCollection": "qwen3_rag.milvus",
    "RemoteEmbedder": "qwen3_rag.remote",
    "RemoteReranker": "qwen3_rag.remote",
    "load_embedder": "qwen3_rag.backends",
    "load_reranker": "qwen3_rag.backends",
}

__all__ = [
    "LocalEmbedder",
    "LocalReranker",
    "MilvusCollection",
    "RemoteEmbedder",
    "RemoteReranker",
    "__version__",
    "load_embedder",
    "load_reranker",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return package_version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
