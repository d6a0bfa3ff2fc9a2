"""The one place where an ingest embeds: a batch of texts to vectors, and what can be done when some of them fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TypeAlias

import numpy as np

from qwen3_rag.errors import (
    InputError,
    ModelError,
    OutOfMemoryError,
    RemoteBatchError,
    RemoteInputTooLongError,
    RemoteModerationError,
)
from qwen3_rag.milvus import EmbeddedPassages, MilvusCollection, embed_passages
from qwen3_rag.types import Embedder, FloatArray, SparseVector, Truncation

OF_ONE_TEXT = (InputError, OutOfMemoryError, RemoteInputTooLongError, RemoteModerationError)
"""What is wrong with one text, so that the others of its batch may do better. All else concerns every text."""

Embed: TypeAlias = Callable[[Sequence[str]], EmbeddedPassages]


@dataclass(frozen=True, slots=True)
class Vectors:
    """What the model made of one text.

    Attributes:
        dense: Shape `(dimensions,)`.
        sparse: Its sparse vector, if the collection takes such.
    """

    dense: FloatArray
    sparse: SparseVector | None = None


@dataclass(slots=True)
class Embedded:
    """What became of the texts of a batch.

    Attributes:
        vectors: Vectors by position in the batch.
        truncated: Texts that lost tokens, by their position in the batch.
        failed: Errors by position.
        tokens: Tokens that the model has read.
        stopped: An error that concerns every text, after which nothing more was embedded.
    """

    vectors: dict[int, Vectors] = field(default_factory=dict)
    truncated: list[Truncation] = field(default_factory=list)
    failed: dict[int, Exception] = field(default_factory=dict)
    tokens: int = 0
    stopped: Exception | None = None

    def check(self) -> None:
        """Raises the error that concerns every text, if there was one."""
        if self.stopped is not None:
            raise self.stopped


def embed_with(embedder: Embedder, collection: MilvusCollection) -> Embed:
    """Returns what an ingest calls to embed texts as documents, as the collection wants them."""

    def embed(texts: Sequence[str]) -> EmbeddedPassages:
        result = embed_passages(collection, embedder, texts)
        if len(result.vectors) != len(texts):
            raise ModelError(f"{embedder.model_id!r} returned {len(result.vectors)} vectors for {len(texts)} texts")
        return result

    return embed


def embed_batch(embed: Embed, texts: Sequence[str]) -> Embedded:
    """Embeds what can be embedded.

    A batch that is refused for the sake of a text is halved until that text is alone. Of an error that brings what
    succeeded, that is used, and not sent again.

    Args:
        embed: Embeds texts, or raises.
        texts: The batch.

    Raises:
        Qwen3RagError: What concerns every text, if nothing was embedded before it.
        BaseException: What is no error of this package, such as `KeyboardInterrupt`.
    """
    embedded = Embedded()
    if texts:
        _embed(embed, texts, range(len(texts)), embedded)
    if not embedded.vectors:
        embedded.check()
    return embedded


def _embed(embed: Embed, texts: Sequence[str], positions: Sequence[int], out: Embedded) -> None:
    if out.stopped is not None:
        return
    try:
        result = embed([texts[position] for position in positions])
    except RemoteBatchError as error:
        if _covers(error, len(positions)):
            _take(error, positions, out)
        elif all(isinstance(each, OF_ONE_TEXT) for each in error.failed.values()):
            _halve(embed, texts, positions, error, out)
        else:
            out.stopped = error
    except OF_ONE_TEXT as error:
        _halve(embed, texts, positions, error, out)
    else:
        out.tokens += result.tokens
        sparse = repeat(None) if result.sparse is None else result.sparse
        out.vectors |= dict(zip(positions, map(Vectors, result.vectors, sparse), strict=True))
        out.truncated += [Truncation(positions[cut.index], cut.part, cut.tokens, cut.kept) for cut in result.truncated]


def _halve(embed: Embed, texts: Sequence[str], positions: Sequence[int], error: Exception, out: Embedded) -> None:
    if len(positions) == 1:
        out.failed[positions[0]] = error
        return
    middle = len(positions) // 2
    for half in (positions[:middle], positions[middle:]):
        _embed(embed, texts, half, out)


def _covers(error: RemoteBatchError, count: int) -> bool:
    """Whether the error speaks of exactly these texts; one that passed through a cache speaks of those it lacked."""
    return {*error.done, *error.failed} == set(range(count)) and None not in map(_vectors, error.done.values())


def _vectors(done: object) -> Vectors | None:
    """What an error brings for a text: a vector, or with the sparse one."""
    from qwen3_rag.remote.api import Embedding  # who raised the error has loaded it

    if isinstance(done, Embedding):
        return None if done.dense is None else Vectors(done.dense, done.sparse)
    return Vectors(done) if isinstance(done, np.ndarray) and done.ndim == 1 else None


def _take(error: RemoteBatchError, positions: Sequence[int], out: Embedded) -> None:
    found = {positions[index]: _vectors(done) for index, done in error.done.items()}
    out.vectors |= {position: vectors for position, vectors in found.items() if vectors is not None}
    for index, cause in error.failed.items():
        if isinstance(cause, OF_ONE_TEXT):
            out.failed[positions[index]] = cause
        else:
            out.stopped = error
