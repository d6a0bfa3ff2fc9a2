"""A collection in memory and a slow model, to test the pipeline alone. What they hold and do is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from qwen3_rag.errors import InputError
from qwen3_rag.milvus.checks import checked_vectors
from qwen3_rag.types import SparseVector
from tests.fakes import WordEmbedder


class MemoryCollection:
    """The methods of `MilvusCollection` that an ingest calls, over a dict."""

    sparse_leg = "bm25"
    exclusive = staticmethod(nullcontext)

    def __init__(
        self,
        *,
        seconds: float = 0.0,
        text_bytes: int = 65_535,
        before_write: Callable[[list], None] = lambda _passages: None,
    ) -> None:
        self.rows: dict[str, tuple] = {}
        self.sparse: dict[str, SparseVector] = {}
        self.text_bytes = text_bytes
        self.seconds = seconds
        self.before_write = before_write
        self.writes = 0
        self.flushes = 0
        self.threads: set[str] = set()

    def check_writable(self):
        pass

    def verify(self, embedder, *, dimensions=None):
        pass

    def get(self, ids):
        self.threads.add(threading.current_thread().name)
        return [self.rows[i][0] for i in ids if i in self.rows]

    def upsert(self, passages, vectors, *, sparse=None, embedder=None):
        assert (sparse is not None) == (self.sparse_leg == "model")
        self.threads.add(threading.current_thread().name)
        self.before_write(passages)
        matrix = checked_vectors(vectors, len(passages), metric="COSINE")
        for passage in passages:
            if len(passage.text.encode()) > self.text_bytes:
                raise InputError(f"passage {passage.id!r}: its text is too long")
        time.sleep(self.seconds)
        self.writes += 1
        self.rows |= {p.id: (p, v.copy()) for p, v in zip(passages, matrix, strict=True)}
        self.sparse |= dict(zip((p.id for p in passages), sparse or (), strict=sparse is not None))
        return ()

    def flush(self):
        self.flushes += 1

    @property
    def content(self) -> dict[str, tuple]:
        return {i: (p.text, dict(p.metadata), v.tobytes()) for i, (p, v) in self.rows.items()}


class SlowEmbedder(WordEmbedder):
    """Takes the same time for every batch, as a model on an accelerator or at a server does."""

    def __init__(self, seconds: float, dimensions: int = 8) -> None:
        super().__init__(dimensions)
        self.seconds = seconds

    def embed_documents(self, texts, *, dimensions=None):
        time.sleep(self.seconds)
        return super().embed_documents(texts, dimensions=dimensions)


class Refusing(WordEmbedder):
    """Raises `error(texts)` for a batch, unless that is `None`."""

    def __init__(self, error) -> None:
        super().__init__(8)
        self.error = error

    def embed_documents(self, texts, *, dimensions=None):
        result = super().embed_documents(texts, dimensions=dimensions)
        error = self.error(texts)
        if error is not None:
            raise error
        return result


class NotANumber(WordEmbedder):
    """Makes no vector of a text with this word."""

    def __init__(self, word: str) -> None:
        super().__init__(8)
        self.word = word

    def embed_documents(self, texts, *, dimensions=None):
        result = super().embed_documents(texts, dimensions=dimensions)
        for i, text in enumerate(texts):
            if self.word in text:
                result.vectors[i] = np.nan
        return result
