"""Texts as a collection takes them: dense vectors, and the model's sparse ones where its sparse leg holds such.

One request to the model makes both. The stores of both frameworks and the ingest come here, so that what a collection
holds decides what a model is asked for, and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from qwen3_rag.errors import ConfigurationError, ModelError
from qwen3_rag.types import (
    Embedder,
    EmbeddingResult,
    FloatArray,
    HybridEmbeddingResult,
    SparseEmbedder,
    SparseOutput,
    SparseVector,
    Truncation,
)

if TYPE_CHECKING:
    from qwen3_rag.milvus.collection import MilvusCollection


@dataclass(frozen=True, slots=True)
class EmbeddedPassages:
    """What `MilvusCollection.upsert` takes beside the passages, with what it took.

    Attributes:
        vectors: Shape `(n_texts, dimensions)`.
        sparse: One for each text; `None` if the collection has no place for them.
        tokens: Tokens that the model processed.
        truncated: The texts that lost tokens.
    """

    vectors: FloatArray
    sparse: tuple[SparseVector, ...] | None
    tokens: int = 0
    truncated: tuple[Truncation, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A question as a collection is asked with it.

    Attributes:
        text: The question.
        dense: Its vector, shape `(dimensions,)`; `None` if it was not asked for.
        sparse: Its sparse vector; `None` if it was not asked for, or the collection has no place for it.
    """

    text: str
    dense: FloatArray | None = None
    sparse: SparseVector | None = None

    @property
    def sparse_query(self) -> str | SparseVector:
        """What the sparse leg of the collection is asked with."""
        return self.text if self.sparse is None else self.sparse


def embed_passages(
    collection: MilvusCollection,
    embedder: Embedder,
    texts: Sequence[str],
    *,
    dimensions: int | None = None,
) -> EmbeddedPassages:
    """Embeds passages for a collection, which is opened for that.

    Args:
        collection: Where they are to go.
        embedder: What embeds.
        texts: The passages' texts.
        dimensions: Length of the dense vectors; `None` is the embedder's own.

    Returns:
        What `MilvusCollection.upsert` takes.

    Raises:
        ConfigurationError: If the collection holds the sparse vectors of a model and this one makes none.
        Qwen3RagError: What the embedder or the store raises.
    """
    if _takes_sparse(collection):
        return _both(as_sparse_embedder(embedder).hybrid_documents(texts, dimensions=dimensions))
    return _dense(embedder.embed_documents(texts, dimensions=dimensions))


async def aembed_passages(
    collection: MilvusCollection,
    embedder: Embedder,
    texts: Sequence[str],
    *,
    dimensions: int | None = None,
) -> EmbeddedPassages:
    """Async twin of `embed_passages`."""
    if await asyncio.to_thread(_takes_sparse, collection):
        return _both(await as_sparse_embedder(embedder).ahybrid_documents(texts, dimensions=dimensions))
    return _dense(await embedder.aembed_documents(texts, dimensions=dimensions))


def embed_query(
    collection: MilvusCollection,
    embedder: Embedder,
    text: str,
    *,
    instruction: str | None = None,
    dimensions: int | None = None,
    dense: bool = True,
    sparse: bool = True,
) -> EmbeddedQuery:
    """Embeds a question for a collection, which is opened for that.

    Args:
        collection: What is to be searched.
        embedder: The model that wrote it.
        text: The question.
        instruction: The query instruction; `None` is the embedder's own.
        dimensions: Length of the dense vector; `None` is the embedder's own.
        dense: Whether the vector is wanted: not for a search of the sparse leg alone.
        sparse: Whether the sparse leg will be asked.

    Returns:
        What the searches of a collection take; for BM25 that is the text itself.

    Raises:
        ConfigurationError: If the collection holds the sparse vectors of a model and this one makes none.
        Qwen3RagError: What the embedder or the store raises.
    """
    options: Any = {"instruction": instruction, "dimensions": dimensions}
    if sparse and _takes_sparse(collection):
        output = _output(dense=dense)
        return _query(text, as_sparse_embedder(embedder).hybrid_queries([text], output=output, **options))
    return _query(text, embedder.embed_queries([text], **options)) if dense else EmbeddedQuery(text)


async def aembed_query(
    collection: MilvusCollection,
    embedder: Embedder,
    text: str,
    *,
    instruction: str | None = None,
    dimensions: int | None = None,
    dense: bool = True,
    sparse: bool = True,
) -> EmbeddedQuery:
    """Async twin of `embed_query`."""
    options: Any = {"instruction": instruction, "dimensions": dimensions}
    if sparse and await asyncio.to_thread(_takes_sparse, collection):
        output = _output(dense=dense)
        return _query(text, await as_sparse_embedder(embedder).ahybrid_queries([text], output=output, **options))
    return _query(text, await embedder.aembed_queries([text], **options)) if dense else EmbeddedQuery(text)


def as_sparse_embedder(value: object) -> SparseEmbedder:
    """Returns an embedder that makes sparse vectors as it is. Nothing is loaded or sent.

    Raises:
        ConfigurationError: If it makes none.
    """
    # Not `isinstance`, which on Python 3.11 reads every property, and `dimensions` may have to ask the server.
    if getattr(value, "has_sparse", False) is not True:
        name = f"{type(value).__name__} {getattr(value, 'model_id', '')}".strip()
        raise ConfigurationError(
            f"a collection with sparse='model' needs an embedder that makes sparse vectors, and {name} makes none: use "
            "'dashscope:text-embedding-v4' by its native API and without a cache, which keeps dense vectors alone, or "
            "another collection with sparse='bm25'"
        )
    return cast("SparseEmbedder", value)


def _takes_sparse(collection: MilvusCollection) -> bool:
    return collection.sparse_leg == "model"


def _output(*, dense: bool) -> SparseOutput:
    return "dense&sparse" if dense else "sparse"


def _dense(result: EmbeddingResult) -> EmbeddedPassages:
    return EmbeddedPassages(result.vectors, None, result.tokens, result.truncated)


def _both(result: HybridEmbeddingResult) -> EmbeddedPassages:
    if result.vectors is None:
        raise ModelError("the embedder returned sparse vectors alone, asked was for the dense ones too")
    return EmbeddedPassages(result.vectors, result.sparse, result.tokens, result.truncated)


def _query(text: str, result: EmbeddingResult | HybridEmbeddingResult) -> EmbeddedQuery:
    return EmbeddedQuery(
        text,
        None if result.vectors is None else result.vectors[0],
        result.sparse[0] if isinstance(result, HybridEmbeddingResult) else None,
    )
