"""Embedding and reranking over HTTP: DashScope, and every common server of one's own. Base install."""

from qwen3_rag.remote.connection import ConnectionOptions
from qwen3_rag.remote.embedder import RemoteEmbedder
from qwen3_rag.remote.limits import RateLimit
from qwen3_rag.remote.probe import EmbeddingProbe, RerankProbe
from qwen3_rag.remote.reranker import RemoteReranker
from qwen3_rag.remote.retry import RetryPolicy
from qwen3_rag.remote.timeouts import Timeouts
from qwen3_rag.types import HybridEmbeddingResult, SparseVector

__all__ = [
    "ConnectionOptions",
    "EmbeddingProbe",
    "HybridEmbeddingResult",
    "RateLimit",
    "RemoteEmbedder",
    "RemoteReranker",
    "RerankProbe",
    "RetryPolicy",
    "SparseVector",
    "Timeouts",
]
