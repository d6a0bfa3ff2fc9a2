"""The methods of a remote embedder that give sparse vectors, with or without the dense ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from qwen3_rag.remote.api import Output
from qwen3_rag.remote.embedding_plan import EmbeddingJob
from qwen3_rag.remote.model import RemoteModel
from qwen3_rag.types import HybridEmbeddingResult


class HybridMethods(RemoteModel[bool]):
    """Queries and documents to sparse vectors, which DashScope gives in the same request as the dense ones."""

    @abstractmethod
    def _plan(self, *args: Any) -> EmbeddingJob:
        """Prepares a call."""

    @abstractmethod
    async def _embed_hybrid(self, job: EmbeddingJob) -> HybridEmbeddingResult:
        """Sends it."""

    def hybrid_documents(
        self, texts: Sequence[str], *, dimensions: int | None = None, output: Output = "dense&sparse"
    ) -> HybridEmbeddingResult:
        """Embeds passages to sparse vectors, and to dense ones in the same request.

        Args:
            texts: The passages.
            dimensions: Width of the dense vectors for this call.
            output: `"dense&sparse"` or `"sparse"`.

        Returns:
            One sparse vector per text, in order. Raises as `embed_documents`.

        Raises:
            ConfigurationError: If the model has no sparse vectors.
        """
        return self._call(partial(self._plan, texts, "document", None, dimensions, output), self._embed_hybrid)

    def hybrid_queries(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: Output = "dense&sparse",
    ) -> HybridEmbeddingResult:
        """Embeds questions as `hybrid_documents` embeds passages."""
        return self._call(partial(self._plan, texts, "query", instruction, dimensions, output), self._embed_hybrid)

    async def ahybrid_documents(
        self, texts: Sequence[str], *, dimensions: int | None = None, output: Output = "dense&sparse"
    ) -> HybridEmbeddingResult:
        """Async twin of `hybrid_documents`."""
        return await self._acall(partial(self._plan, texts, "document", None, dimensions, output), self._embed_hybrid)

    async def ahybrid_queries(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: Output = "dense&sparse",
    ) -> HybridEmbeddingResult:
        """Async twin of `hybrid_queries`."""
        plan = partial(self._plan, texts, "query", instruction, dimensions, output)
        return await self._acall(plan, self._embed_hybrid)
