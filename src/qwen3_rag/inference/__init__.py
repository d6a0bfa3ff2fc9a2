"""Local models on torch and transformers, both imported at first use. Extra: `local`."""

from qwen3_rag.inference.embedder import LocalEmbedder
from qwen3_rag.inference.reranker import LocalReranker

__all__ = ["LocalEmbedder", "LocalReranker"]
