"""Facts about the embedding and reranking models: data, no behaviour.

Source of the numbers: the models' cards and `config.json` files, and QwenLM/Qwen3-Embedding's `README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

MAX_TOKENS = 32_768
"""Context length of every Qwen3 embedding and reranking model."""

MIN_DIMENSIONS = 32
"""Smallest width that the embedding models were trained to be cut to (MRL)."""


@dataclass(frozen=True, slots=True)
class EmbeddingFacts:
    """What is known of an embedding model before it is loaded.

    Attributes:
        dimensions: Full width of its vectors.
        max_tokens: Longest input, in tokens, the closing `<|endoftext|>` included.
    """

    dimensions: int
    max_tokens: int = MAX_TOKENS


EMBEDDING_MODELS = MappingProxyType(
    {
        "Qwen/Qwen3-Embedding-0.6B": EmbeddingFacts(1024),
        "Qwen/Qwen3-Embedding-4B": EmbeddingFacts(2560),
        "Qwen/Qwen3-Embedding-8B": EmbeddingFacts(4096),
    }
)

RERANKER_MODELS = ("Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B", "Qwen/Qwen3-Reranker-8B")

DEFAULT_EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-0.6B"
DEFAULT_RERANKER_MODEL = "Qwen/Qwen3-Reranker-0.6B"

QWEN3_VOCABULARY = MappingProxyType({"<|endoftext|>": 151643, "<|im_end|>": 151645, "yes": 9693, "no": 2152})
"""Token ids of the real vocabulary, checked at load when the tokenizer is of its size."""

QWEN3_VOCABULARY_SIZE = 151_669
"""Entries of the real tokenizer; the weights are padded beyond it."""
