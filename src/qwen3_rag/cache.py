"""A cache around any embedder, whose key holds everything that changes a vector."""

from __future__ import annotations

import asyncio
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import numpy as np

from qwen3_rag.errors import ConfigurationError, TruncationWarning
from qwen3_rag.prompts import check_instruction
from qwen3_rag.texts import check_dimensions, check_texts
from qwen3_rag.types import Embedder, EmbeddingResult, FloatArray, Truncation

Role = Literal["document", "query"]

_FORMAT = 1
"""Part of every key: a new layout of the values or the key never reads the old one."""

_CUT = np.dtype("<u4")
_CUT_BYTES = 2 * _CUT.itemsize
"""A value is the vector, float32, and then two integers: tokens before and after the cut, zeros if nothing was cut."""


class CacheStorage(Protocol):
    """Where the bytes lie. A LangChain `ByteStore` is one as it is."""

    def mget(self, keys: Sequence[str], /) -> Sequence[bytes | None]:
        """Returns the values in the order of the keys, `None` where there is none."""
        ...

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]], /) -> None:
        """Stores the values."""
        ...


def cache_key(model_id: str, dimensions: int, role: Role, instruction: str | None, text: str) -> str:
    """Returns the key of one vector: the SHA-256, in hexadecimal, over JSON of all that decides the vector.

    Args:
        model_id: `Embedder.model_id`.
        dimensions: Length of the vector.
        role: Whether the text is a document or a query.
        instruction: The query's instruction, `None` for a document.
        text: The text as the model gets it, before any frame.
    """
    parts = json.dumps([_FORMAT, model_id, dimensions, role, instruction, text], ensure_ascii=False)
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


class CachedEmbedder:
    """An `Embedder` that asks another one only for what its storage does not have.

    A query and a document with equal text, two instructions, two dimensions and two models never share an entry.
    Texts that are missing are embedded in one call, each distinct text once. What was cut from a text is stored with
    its vector, so that a hit reports the same truncation as the miss did. `tokens` counts what the model processed:
    nothing for hits. Dense vectors alone are kept: a cached embedder makes no sparse ones, whatever the inner one does.

    Args:
        inner: The embedder that does the work.
        storage: Keeps the bytes, for example a LangChain `ByteStore`. It is called from worker threads by the async
            methods, so it must allow that, as the in-memory and the file store do.

    Raises:
        ConfigurationError: If the storage lacks `mget` or `mset`.

    Example:
        ```python
        from langchain_core.stores import InMemoryByteStore

        embedder = CachedEmbedder(load_embedder("tiny"), InMemoryByteStore())
        ```
    """

    def __init__(self, inner: Embedder, storage: CacheStorage) -> None:
        if not (callable(getattr(storage, "mget", None)) and callable(getattr(storage, "mset", None))):
            raise ConfigurationError(
                f"a cache needs the methods mget and mset, {type(storage).__name__} has not both: "
                "give a LangChain ByteStore such as InMemoryByteStore"
            )
        self._inner = inner
        self._storage = storage

    def __repr__(self) -> str:
        return f"CachedEmbedder({type(self._inner).__name__}, {type(self._storage).__name__})"

    def warm_up(self) -> Self:
        """Lets the inner embedder load or connect now, if it has something to."""
        self._ask("warm_up")
        return self

    def close(self) -> None:
        """Closes the inner embedder, if it can be closed; the storage is the caller's."""
        self._ask("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _ask(self, method: str) -> None:
        if callable(found := getattr(self._inner, method, None)):
            found()

    @property
    def model_id(self) -> str:
        """Identity of the inner embedder: a cache changes no vector."""
        return self._inner.model_id

    @property
    def dimensions(self) -> int:
        """Length of the vectors when a call names no other."""
        return self._inner.dimensions

    @property
    def instruction(self) -> str:
        """The query instruction when a call names no other."""
        return self._inner.instruction

    def embed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Embeds passages: no instruction, no prefix."""
        call = self._call("document", texts, None, dimensions)
        if missing := self._look_up(call):
            self._storage.mset(call.fill(self._inner.embed_documents(missing, dimensions=dimensions)))
        return call.result()

    def embed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Embeds questions, each under the instruction."""
        call = self._call("query", texts, instruction, dimensions)
        if missing := self._look_up(call):
            fresh = self._inner.embed_queries(missing, instruction=instruction, dimensions=dimensions)
            self._storage.mset(call.fill(fresh))
        return call.result()

    async def aembed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Async twin of `embed_documents`; the storage is read and written in a worker thread."""
        call = await asyncio.to_thread(self._call, "document", texts, None, dimensions)
        if missing := await asyncio.to_thread(self._look_up, call):
            fresh = await self._inner.aembed_documents(missing, dimensions=dimensions)
            await asyncio.to_thread(self._storage.mset, call.fill(fresh))
        return call.result()

    async def aembed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Async twin of `embed_queries`; the storage is read and written in a worker thread."""
        call = await asyncio.to_thread(self._call, "query", texts, instruction, dimensions)
        if missing := await asyncio.to_thread(self._look_up, call):
            fresh = await self._inner.aembed_queries(missing, instruction=instruction, dimensions=dimensions)
            await asyncio.to_thread(self._storage.mset, call.fill(fresh))
        return call.result()

    def _call(self, role: Role, texts: Sequence[str], instruction: str | None, dimensions: int | None) -> _Call:
        check_texts(texts)
        check_dimensions(dimensions)
        width = self._inner.dimensions if dimensions is None else dimensions
        if role == "query":
            instruction = self._inner.instruction if instruction is None else check_instruction(instruction)
        model_id = self._inner.model_id
        return _Call(
            role, width, {text: cache_key(model_id, width, role, instruction, text) for text in texts}, list(texts)
        )

    def _look_up(self, call: _Call) -> list[str]:
        if not call.keys:
            return []
        return call.read(self._storage.mget(list(call.keys.values())))


@dataclass(slots=True)
class _Call:
    """One call on its way: what was asked, what was found, what is still missing.

    Attributes:
        role: Document or query.
        width: Length of the vectors.
        keys: The key of each distinct text.
        texts: All texts as they were given.
        vectors: The vector of each distinct text, as far as it is known.
        cuts: Tokens before and after the cut, of the texts that were cut.
        tokens: Tokens that the model processed in this call.
    """

    role: Role
    width: int
    keys: dict[str, str]
    texts: list[str]
    vectors: dict[str, FloatArray] = field(default_factory=dict)
    cuts: dict[str, tuple[int, int]] = field(default_factory=dict)
    tokens: int = 0

    def read(self, found: Sequence[bytes | None]) -> list[str]:
        """Takes what the storage had and returns the distinct texts that are missing, in input order."""
        for text, value in zip(self.keys, found, strict=True):
            # Bytes of another length are not ours, so they count as absent and are overwritten.
            if value is not None and len(value) == 4 * self.width + _CUT_BYTES:
                self.vectors[text] = np.frombuffer(value, "<f4", self.width)
                tokens, kept = np.frombuffer(value, _CUT, offset=4 * self.width).tolist()
                if tokens:
                    self.cuts[text] = (tokens, kept)
        if self.cuts:
            # The embedder warned when it cut them; now that nothing is embedded, nobody else would.
            message = f"{len(self.cuts)} of the cached texts had been cut when they were embedded"
            warnings.warn(message, TruncationWarning, stacklevel=4)
        return [text for text in self.keys if text not in self.vectors]

    def fill(self, fresh: EmbeddingResult) -> list[tuple[str, bytes]]:
        """Takes what the embedder returned for the missing texts and returns what is to be stored."""
        missing = [text for text in self.keys if text not in self.vectors]
        cuts = {missing[t.index]: (t.tokens, t.kept) for t in fresh.truncated}
        self.tokens = fresh.tokens
        self.vectors.update(zip(missing, fresh.vectors, strict=True))
        self.cuts.update(cuts)
        return [
            (
                self.keys[text],
                np.asarray(vector, "<f4").tobytes() + np.array(cuts.get(text, (0, 0)), _CUT).tobytes(),
            )
            for text, vector in zip(missing, fresh.vectors, strict=True)
        ]

    def result(self) -> EmbeddingResult:
        """Returns the vectors of all texts in input order, with a report for every text that was cut."""
        vectors = np.zeros((len(self.texts), self.width), np.float32)
        for row, text in enumerate(self.texts):
            vectors[row] = self.vectors[text]
        truncated = [
            Truncation(row, self.role, *self.cuts[text]) for row, text in enumerate(self.texts) if text in self.cuts
        ]
        return EmbeddingResult(vectors, self.tokens, tuple(truncated))
