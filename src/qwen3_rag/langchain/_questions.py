"""How `MilvusStore` embeds a question: as the mode needs it, and as the collection's sparse leg does."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
from langchain_core.callbacks import Callbacks
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._tracing import EmbedQuery, EmbedQuestion, atraced, traced
from qwen3_rag.langchain.embeddings import Qwen3Embeddings, Vector
from qwen3_rag.milvus import EmbeddedQuery, MilvusCollection, aembed_query, as_sparse_embedder, embed_query
from qwen3_rag.retrieval import Mode


class MilvusQuestions(VectorStore):
    """Embeds questions for a collection, after comparing the model with its contract.

    Attributes:
        _embedding: What embeds queries.
        _collection: Where to search.
    """

    _embedding: Embeddings
    _collection: MilvusCollection

    def embed_question(
        self, query: str, *, mode: Mode = "dense", instruction: str | None = None, callbacks: Callbacks = None
    ) -> EmbeddedQuery:
        """Embeds a question as a mode needs it, after comparing the model with the collection's contract.

        Where the collection holds the model's sparse vectors, both kinds come from one request. BM25 needs none, so that
        nothing is embedded for `mode="sparse"` there, and no instruction acts.
        """
        if mode != "dense" and self.takes_sparse():
            options = self._sparse_options(mode, instruction)
            self._verify()
            embed = partial(embed_query, self._collection, self._sparse_model().embedder, query, **options)
            return traced(EmbedQuestion(self._embedding, query, instruction), callbacks, embed)
        if mode == "sparse":
            return EmbeddedQuery(query)
        return EmbeddedQuery(query, np.asarray(self.query_vector(query, instruction, callbacks), np.float32))

    async def aembed_question(
        self, query: str, *, mode: Mode = "dense", instruction: str | None = None, callbacks: Callbacks = None
    ) -> EmbeddedQuery:
        """Async twin of `embed_question`."""
        if mode != "dense" and await asyncio.to_thread(self.takes_sparse):
            options = self._sparse_options(mode, instruction)
            await asyncio.to_thread(self._verify)
            embed = partial(aembed_query, self._collection, self._sparse_model().embedder, query, **options)
            return await atraced(EmbedQuestion(self._embedding, query, instruction), callbacks, embed)
        if mode == "sparse":
            return EmbeddedQuery(query)
        return EmbeddedQuery(query, np.asarray(await self.aquery_vector(query, instruction, callbacks), np.float32))

    def takes_sparse(self) -> bool:
        """Whether the sparse leg of the collection holds the sparse vectors of a model; opens it to find out."""
        return self._collection.sparse_leg == "model"

    def query_vector(self, query: str, instruction: str | None = None, callbacks: Callbacks = None) -> Vector:
        """Embeds a question, after comparing the model with the collection's contract."""
        options = self._query_options(instruction)
        self._verify()
        embed = partial(self._embedding.embed_query, query, **options)
        return traced(EmbedQuery(self._embedding, query, instruction), callbacks, embed)

    async def aquery_vector(self, query: str, instruction: str | None = None, callbacks: Callbacks = None) -> Vector:
        """Async twin of `query_vector`."""
        options = self._query_options(instruction)
        await asyncio.to_thread(self._verify)
        embed = partial(self._embedding.aembed_query, query, **options)
        return await atraced(EmbedQuery(self._embedding, query, instruction), callbacks, embed)

    def _verify(self) -> None:
        """Compares the collection's contract with the model, where the model is one that says its name."""
        if isinstance(self._embedding, Qwen3Embeddings):
            self._collection.verify(self._embedding.embedder, dimensions=self._embedding.dimensions)

    def _sparse_model(self) -> Qwen3Embeddings:
        """The embeddings, if they are such that make sparse vectors."""
        if not isinstance(self._embedding, Qwen3Embeddings):
            raise ConfigurationError(
                f"a collection with sparse='model' needs Qwen3Embeddings over a model that makes sparse vectors, such as "
                f"'dashscope:text-embedding-v4', got {type(self._embedding).__name__}"
            )
        as_sparse_embedder(self._embedding.embedder)
        return self._embedding

    def _sparse_options(self, mode: Mode, instruction: str | None) -> dict[str, Any]:
        model = self._sparse_model()
        return {
            "instruction": model.instruction if instruction is None else instruction,
            "dimensions": model.dimensions,
            "dense": mode != "sparse",
        }

    def _check_instruction(self, mode: Mode, instruction: str | None) -> None:
        if instruction is not None and mode == "sparse" and not self.takes_sparse():
            raise ConfigurationError(
                f"instruction={instruction!r} would be ignored with mode='sparse', which embeds nothing for BM25"
            )

    def _query_options(self, instruction: str | None) -> dict[str, Any]:
        if instruction is None:
            return {}
        if not isinstance(self._embedding, Qwen3Embeddings):
            raise ConfigurationError(
                f"{type(self._embedding).__name__} takes no instruction, got {instruction!r}: use Qwen3Embeddings"
            )
        return {"instruction": instruction}
