"""Qwen3-Embedding as a LlamaIndex embedding model."""

from __future__ import annotations

import base64
import binascii
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import llama_index.core.instrumentation as instrument
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.storage.kvstore.types import BaseKVStore

from qwen3_rag.backends import load_embedder, written_options
from qwen3_rag.cache import CachedEmbedder
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index._tracing import told_sparse
from qwen3_rag.milvus import as_sparse_embedder
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL
from qwen3_rag.prompts import check_instruction
from qwen3_rag.texts import check_dimensions
from qwen3_rag.types import Embedder, EmbeddingResult, SparseEmbedder, SparseVector

Vector = list[float]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]

CACHE_COLLECTION = "qwen3_rag_embeddings"
"""Collection of the key-value store. Not LlamaIndex's own `embeddings`, whose keys are bare texts."""

# The overrides below become spans themselves; calling the decorated originals would trace every query twice.
_get_query_embedding = inspect.unwrap(BaseEmbedding.get_query_embedding)
_aget_query_embedding = inspect.unwrap(BaseEmbedding.aget_query_embedding)


class KVCacheStorage:
    """Makes a LlamaIndex key-value store hold the bytes of `qwen3_rag.cache.CachedEmbedder`.

    Values are JSON objects with one base64 string, since that is all that every store (memory, Redis, Postgres, …)
    keeps.

    Args:
        store: Any LlamaIndex key-value store.
    """

    def __init__(self, store: BaseKVStore) -> None:
        self._store = store

    def mget(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Returns the values in the order of the keys; `None` where there is none that can be read."""
        return [_decode(self._store.get(key, collection=CACHE_COLLECTION)) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]], /) -> None:
        """Stores the values."""
        pairs = [(key, {"vector": base64.b64encode(value).decode("ascii")}) for key, value in key_value_pairs]
        self._store.put_all(pairs, collection=CACHE_COLLECTION)


def _decode(value: Mapping[str, Any] | None) -> bytes | None:
    try:
        return base64.b64decode(value["vector"], validate=True) if value else None
    except (KeyError, TypeError, ValueError, binascii.Error):  # someone else's value: a miss, not a failure
        return None


class Qwen3Embedding(BaseEmbedding):
    """Embeds queries under an instruction and documents bare, as Qwen3-Embedding was trained.

    Example:
        ```python
        from qwen3_rag.llama_index import Qwen3Embedding

        embed_model = Qwen3Embedding("Qwen/Qwen3-Embedding-0.6B", dimensions=512)
        passages = embed_model.get_text_embedding_batch(["Milvus stores segments in object storage."])
        query = embed_model.get_query_embedding("Where is data stored?")
        code = embed_model.get_query_embedding("parse json", instruction="Given a task, retrieve code that solves it")
        ```

    Args:
        model: `"tiny"` (bundled, offline), a hub name, a folder, a `SentenceTransformer`, or any
            `qwen3_rag.types.Embedder`. Nothing is loaded before the first text is embedded.
        model_name: The same under the name that LlamaIndex serialises; give one of the two.
        instruction: Query instruction; `None` takes the model's own, which is the official web-search one.
        dimensions: Width of the vectors, cut and normalised again (MRL); `None` takes the model's own.
        embed_batch_size: Texts handed over at a time, 1 … 2048. The model packs them by tokens itself, so this is no
            limit on memory, and small values only cost speed.
        embeddings_cache: A LlamaIndex key-value store. Keys hold model, width, role and instruction, so a query never
            gets a document's vector, nor one model's vector another's.
        num_workers: Concurrent batches of `aget_text_embedding_batch`.
        callback_manager: LlamaIndex callbacks.
        rate_limiter: LlamaIndex rate limiter.
        model_kwargs: `options` as one mapping, as `to_dict` writes them.
        **options: Passed to `qwen3_rag.inference.LocalEmbedder`: `device`, `dtype`, `max_length`, `cache_folder`, …

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
        MissingDependencyError: If the model's back end is not installed.
    """

    instruction: str | None = Field(default=None, description="Query instruction; None is the model's own.")
    dimensions: int | None = Field(default=None, description="Width of the vectors; None is the model's own.")
    model_kwargs: dict[str, Any] = Field(default_factory=dict, description="Options of the local embedder.")

    _model: Any = PrivateAttr()
    _embedder: Embedder = PrivateAttr()
    _cache: BaseKVStore | None = PrivateAttr(default=None)

    def __init__(
        self,
        model: Any = DEFAULT_EMBEDDING_MODEL,
        *,
        model_name: str | None = None,
        instruction: str | None = None,
        dimensions: int | None = None,
        embed_batch_size: int = 2048,
        embeddings_cache: BaseKVStore | None = None,
        num_workers: int | None = None,
        callback_manager: CallbackManager | None = None,
        rate_limiter: Any = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if model_name is not None:
            model = _only_one(model, model_name)
        _check(instruction, dimensions)
        options.pop("class_name", None)  # stands in what LlamaIndex and pydantic write
        options = {**(model_kwargs or {}), **options}
        named = isinstance(model, (str, os.PathLike))
        # A named model checks the width that it will be asked for; a ready-made one has checked its own.
        embedder = load_embedder(model, **options, **({"dimensions": dimensions} if named else {}))
        super().__init__(
            model_name=os.fspath(model) if named else embedder.model_id,
            instruction=instruction,
            dimensions=dimensions,
            model_kwargs=written_options(options),
            embed_batch_size=embed_batch_size,
            num_workers=num_workers,
            callback_manager=callback_manager or CallbackManager([]),
            rate_limiter=rate_limiter,
        )
        self._model = model
        self._cache = _check_cache(embeddings_cache)
        self._embedder = embedder if self._cache is None else CachedEmbedder(embedder, KVCacheStorage(self._cache))

    @classmethod
    def class_name(cls) -> str:
        """Returns the name that LlamaIndex serialises."""
        return "Qwen3Embedding"

    @property
    def embedder(self) -> Embedder:
        """What embeds: share it with other adapters, or call its own `warm_up()` and `close()`."""
        return self._embedder

    def to_payload(self) -> dict[str, Any]:
        """Returns what traces show of the model."""
        return {**super().to_payload(), "instruction": self.instruction, "dimensions": self.dimensions}

    def with_instruction(self, instruction: str | None) -> Self:
        """Returns a copy that asks under another instruction and shares weights and cache with this one.

        Args:
            instruction: The query instruction; `None` is the model's own.

        Raises:
            ConfigurationError: If it is blank.
        """
        _check(instruction, self.dimensions)
        return self.model_copy(update={"instruction": instruction})

    def get_query_embedding(self, query: str, *, instruction: str | None = None) -> Vector:
        """Embeds a query.

        Args:
            query: The question, bare.
            instruction: Overrides the instance's own for this call.

        Returns:
            The vector, of unit length.
        """
        model = self if instruction is None else self.with_instruction(instruction)
        vector: Vector = _get_query_embedding(model, query)
        return vector

    async def aget_query_embedding(self, query: str, *, instruction: str | None = None) -> Vector:
        """Async twin of `get_query_embedding`."""
        model = self if instruction is None else self.with_instruction(instruction)
        vector: Vector = await _aget_query_embedding(model, query)
        return vector

    @dispatcher.span
    def sparse_texts(self, texts: Sequence[str]) -> tuple[SparseVector, ...]:
        """Makes the sparse vectors of passages, one for each, which LlamaIndex has no method for.

        Raises:
            ConfigurationError: If the model makes none, as most don't; DashScope's `text-embedding-v4` does.
        """
        embed = partial(self._sparse().hybrid_documents, texts, dimensions=self.dimensions, output="sparse")
        return told_sparse(self.to_payload(), texts, embed)

    @dispatcher.span
    def sparse_query(self, query: str) -> SparseVector:
        """Makes the sparse vector of a question. Raises as `sparse_texts`."""
        options: Any = {"instruction": self.instruction, "dimensions": self.dimensions}
        embed = partial(self._sparse().hybrid_queries, [query], output="sparse", **options)
        return told_sparse(self.to_payload(), [query], embed)[0]

    def _sparse(self) -> SparseEmbedder:
        embedder = as_sparse_embedder(self._embedder)
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()
        return embedder

    def _get_query_embedding(self, query: str) -> Vector:
        result = self._embedder.embed_queries([query], instruction=self.instruction, dimensions=self.dimensions)
        return _lists(result)[0]

    async def _aget_query_embedding(self, query: str) -> Vector:
        result = await self._embedder.aembed_queries([query], instruction=self.instruction, dimensions=self.dimensions)
        return _lists(result)[0]

    def _get_text_embedding(self, text: str) -> Vector:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Vector:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return _lists(self._embedder.embed_documents(texts, dimensions=self.dimensions))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        result = await self._embedder.aembed_documents(texts, dimensions=self.dimensions)
        return _lists(result)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "embeddings_cache" and value is not None:
            raise ConfigurationError(
                "give embeddings_cache to the constructor: LlamaIndex would key it by the bare text, "
                "so that a query gets a document's vector"
            )
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        # Ingestion with several workers pickles its steps. The model goes as it was given (usually a name), so each
        # process loads its own weights; LlamaIndex's default would turn a ready-made model into its name.
        settings: dict[str, Any] = {
            "instruction": self.instruction,
            "dimensions": self.dimensions,
            "embed_batch_size": self.embed_batch_size,
            "embeddings_cache": self._cache,
            "num_workers": self.num_workers,
            "model_kwargs": self.model_kwargs,
        }
        return partial(type(self), **settings), (self._model,)


def _lists(result: EmbeddingResult) -> list[Vector]:
    rows: list[Vector] = result.vectors.tolist()
    return rows


def _only_one(model: Any, model_name: str) -> str:
    if model != DEFAULT_EMBEDDING_MODEL:
        raise ConfigurationError(f"give the model once, got model={model!r} and model_name={model_name!r}")
    return model_name


def _check(instruction: str | None, dimensions: int | None) -> None:
    if instruction is not None:
        check_instruction(instruction)
    check_dimensions(dimensions)


def _check_cache(cache: Any) -> BaseKVStore | None:
    if cache is not None and not isinstance(cache, BaseKVStore):
        raise ConfigurationError(
            f"embeddings_cache must be a LlamaIndex key-value store such as SimpleKVStore(), got {type(cache).__name__}"
        )
    return cache
