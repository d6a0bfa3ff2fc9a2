"""Facts about model families: data, no behaviour beyond a look-up."""

from __future__ import annotations

from qwen3_rag.models.chat import chat_facts
from qwen3_rag.models.chat_types import ChatFacts, HistoryContract, Sampling, StreamOnly, ThinkingMode
from qwen3_rag.models.retrieval import (
    DEFAULT_EMBEDDING_MODEL,
    DEFAULT_RERANKER_MODEL,
    EMBEDDING_MODELS,
    MAX_TOKENS,
    MIN_DIMENSIONS,
    QWEN3_VOCABULARY,
    QWEN3_VOCABULARY_SIZE,
    RERANKER_MODELS,
    EmbeddingFacts,
)

__all__ = [
    "DEFAULT_EMBEDDING_MODEL",
    "DEFAULT_RERANKER_MODEL",
    "EMBEDDING_MODELS",
    "MAX_TOKENS",
    "MIN_DIMENSIONS",
    "QWEN3_VOCABULARY",
    "QWEN3_VOCABULARY_SIZE",
    "RERANKER_MODELS",
    "ChatFacts",
    "EmbeddingFacts",
    "HistoryContract",
    "Sampling",
    "StreamOnly",
    "ThinkingMode",
    "chat_facts",
]
