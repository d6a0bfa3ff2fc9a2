"""Small deterministic stand-ins that speak the core's Protocols, for tests that are about something else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.types import EmbeddingResult, HybridEmbeddingResult, RerankResult, SparseOutput, SparseVector


class WordEmbedder:
    """Sums hashed word vectors. A query under another instruction gets another vector."""

    def __init__(self, dimensions: int = 64, model_id: str = "fake/words") -> None:
        self.dimensions = dimensions
        self.model_id = model_id
        self.instruction = DEFAULT_INSTRUCTION
        self.calls: list[tuple[str, tuple[str, ...], str | None]] = []

    def _vector(self, text: str, dimensions: int) -> np.ndarray:
        out = np.full(self.dimensions, 1e-3, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            out += np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)
        out = out[:dimensions]
        return out / np.linalg.norm(out)

    def _embed(self, texts: Sequence[str], dimensions: int | None) -> EmbeddingResult:
        width = dimensions or self.dimensions
        rows = [self._vector(t, width) for t in texts]
        return EmbeddingResult(np.stack(rows) if rows else np.zeros((0, width), np.float32), sum(map(len, texts)))

    def embed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        self.calls.append(("document", tuple(texts), None))
        return self._embed(texts, dimensions)

    def embed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        self.calls.append(("query", tuple(texts), instruction))
        suffix = "" if instruction in (None, self.instruction) else f" {instruction}"
        return self._embed([t + " ?query" + suffix for t in texts], dimensions)

    async def aembed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        return self.embed_documents(texts, dimensions=dimensions)

    async def aembed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        return self.embed_queries(texts, instruction=instruction, dimensions=dimensions)


class SparseWordEmbedder(WordEmbedder):
    """Word vectors, and the words themselves as sparse vectors: one entry each, of weight 1."""

    has_sparse = True

    def _hybrid(self, dense: EmbeddingResult, texts: Sequence[str], output: SparseOutput) -> HybridEmbeddingResult:
        role, *rest = self.calls.pop()
        self.calls.append((f"{output} {role}", *rest))
        sparse = tuple(self._entries(text) for text in texts)
        return HybridEmbeddingResult(None if output == "sparse" else dense.vectors, sparse, dense.tokens)

    def _entries(self, text: str) -> SparseVector:
        words = set(re.findall(r"\w+", text.lower()))
        indices = sorted({int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") // 2 for word in words})
        return SparseVector(np.array(indices, np.int64), np.ones(len(indices), np.float32))

    def hybrid_documents(
        self, texts: Sequence[str], *, dimensions: int | None = None, output: SparseOutput = "dense&sparse"
    ) -> HybridEmbeddingResult:
        return self._hybrid(self.embed_documents(texts, dimensions=dimensions), texts, output)

    def hybrid_queries(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: SparseOutput = "dense&sparse",
    ) -> HybridEmbeddingResult:
        dense = self.embed_queries(texts, instruction=instruction, dimensions=dimensions)
        return self._hybrid(dense, texts, output)

    async def ahybrid_documents(self, texts: Sequence[str], **options: Any) -> HybridEmbeddingResult:
        return self.hybrid_documents(texts, **options)

    async def ahybrid_queries(self, texts: Sequence[str], **options: Any) -> HybridEmbeddingResult:
        return self.hybrid_queries(texts, **options)


class OverlapReranker:
    """Scores by the share of query words that the document has. The instruction `"invert"` turns the score round."""

    def __init__(self, model_id: str = "fake/overlap") -> None:
        self.model_id = model_id
        self.instruction = DEFAULT_INSTRUCTION
        self.calls: list[tuple[str, tuple[str, ...], str | None]] = []

    def rerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        self.calls.append((query, tuple(documents), instruction))
        return self.score_pairs([(query, d) for d in documents], instruction=instruction)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        words = [(set(re.findall(r"\w+", q.lower())), set(re.findall(r"\w+", d.lower()))) for q, d in pairs]
        share = np.array([len(q & d) / (len(q) or 1) for q, d in words], np.float32)
        if instruction == "invert":
            share = 1 - share
        logits = (share * 8 - 4).astype(np.float32)
        return RerankResult((1 / (1 + np.exp(-logits))).astype(np.float32), logits, sum(len(d) for _, d in pairs))

    async def arerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        return self.rerank(query, documents, instruction=instruction)

    async def ascore_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        return self.score_pairs(pairs, instruction=instruction)
