"""Limits of the hosted embedding and reranking models: data, and look-ups by name.

Sources: https://help.aliyun.com/en/model-studio/embedding and https://www.alibabacloud.com/help/en/model-studio/rerank
with their API references, and the constants of the vendor's SDK 2.0.2. Where pages of different dates disagree the
stricter figure stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from qwen3_rag.models.retrieval import EMBEDDING_MODELS, EmbeddingFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedEmbeddingFacts:
    """What a hosted embedding model takes.

    Attributes:
        widths: The widths that it makes, widest first.
        default_width: The width when none is asked for.
        rows: Texts per request.
        tokens: Tokens per text.
        request_tokens: Tokens per request, where there is such a limit.
        sparse: Whether it also gives sparse vectors (`output_type`).
        roles: Whether it tells queries from documents (`text_type`).
        instructions: Whether it takes an instruction for queries (`instruct`).
    """

    widths: tuple[int, ...]
    default_width: int
    rows: int
    tokens: int
    request_tokens: int | None = None
    sparse: bool = False
    roles: bool = True
    instructions: bool = False


DASHSCOPE_EMBEDDING_MODELS = MappingProxyType(
    {
        "qwen3.7-text-embedding": HostedEmbeddingFacts(
            widths=(2560, 2048, 1536, 1024, 768, 512, 256),
            default_width=1024,
            rows=20,
            tokens=128_000,
            sparse=True,
            instructions=True,
        ),
        "qwen3.7-text-embedding-flash": HostedEmbeddingFacts(
            widths=(1024, 768, 512, 256), default_width=1024, rows=20, tokens=128_000, sparse=True, instructions=True
        ),
        "text-embedding-v4": HostedEmbeddingFacts(
            widths=(2048, 1536, 1024, 768, 512, 256, 128, 64),
            default_width=1024,
            rows=10,
            tokens=8_192,
            sparse=True,
            instructions=True,
        ),
        "text-embedding-v3": HostedEmbeddingFacts(
            widths=(1024, 768, 512, 256, 128, 64), default_width=1024, rows=10, tokens=8_192, sparse=True
        ),
        "text-embedding-v2": HostedEmbeddingFacts(widths=(1536,), default_width=1536, rows=25, tokens=2_048),
        "text-embedding-v1": HostedEmbeddingFacts(widths=(1536,), default_width=1536, rows=25, tokens=2_048),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRerankFacts:
    """What a hosted reranking model takes.

    Attributes:
        documents: Documents per request.
        tokens: Tokens per query and per document.
        request_tokens: Limit of `query tokens * documents + sum of document tokens` per request.
        instructions: Whether it takes an instruction (`instruct`).
    """

    documents: int
    tokens: int
    request_tokens: int
    instructions: bool = True


DASHSCOPE_RERANK_MODELS = MappingProxyType(
    {
        "qwen3.7-text-rerank": HostedRerankFacts(documents=500, tokens=30_000, request_tokens=120_000),
        "qwen3-rerank": HostedRerankFacts(documents=500, tokens=4_000, request_tokens=120_000),
        "gte-rerank-v2": HostedRerankFacts(documents=500, tokens=4_000, request_tokens=30_000, instructions=False),
    }
)

RETIRED_MODELS = MappingProxyType({"gte-rerank": "retired on 2026-05-30; use 'qwen3-rerank'"})
"""Models that the vendor has switched off, and what to use instead."""


def open_embedding_facts(model: str) -> EmbeddingFacts | None:
    """Finds the open Qwen3 embedding model that a server's name for it means, whatever its spelling.

    Servers call the same weights `Qwen/Qwen3-Embedding-0.6B`, `qwen3-embedding:0.6b`,
    `Qwen3-Embedding-0.6B-Q8_0.gguf`, and so on.
    """
    name = model.lower().replace("_", "-").replace(":", "-")
    for known, facts in EMBEDDING_MODELS.items():
        if known.rpartition("/")[2].lower() in name:
            return facts
    return None
