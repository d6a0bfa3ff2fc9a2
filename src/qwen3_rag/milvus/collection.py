"""One Milvus collection of passages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, get_args

import numpy.typing as npt

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.milvus.checks import AnySparse, check_choice, checked_index
from qwen3_rag.milvus.connection import Target
from qwen3_rag.milvus.filters import AnyFilter
from qwen3_rag.milvus.fusion import FusedHit, Weights
from qwen3_rag.milvus.lifecycle import Settings
from qwen3_rag.milvus.schema import METRICS, Metric, SparseOption
from qwen3_rag.milvus.session import Session
from qwen3_rag.milvus.writing import CollectionWriter
from qwen3_rag.types import Embedder, FloatArray, Hit, Passage, Truncation

Consistency: TypeAlias = Literal["Strong", "Bounded", "Session", "Eventually"]


class CollectionOptions(TypedDict, total=False):
    """How a collection is opened and, if it does not exist, created: the keywords of `MilvusCollection`."""

    token: str | None
    db_name: str | None
    metric: Metric
    consistency: Consistency
    index: Mapping[str, Any] | None
    sparse: SparseOption
    check_model: bool
    timeout: float | None


DEFAULT_INDEX: Final[Mapping[str, Any]] = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}


class MilvusCollection(CollectionWriter):
    """Passages with vectors in Milvus Lite, a Milvus server or Zilliz Cloud.

    Nothing is opened before the first call. `close()` gives everything back, the lock on a local file too; the next
    call opens again. All methods may be called from many threads; writers to one Milvus Lite database take turns.
    While the collection does not exist, reading finds nothing; `upsert` creates it with its index, or leaves nothing.

    A new collection gets a sparse leg beside the vectors, so that it can be searched by words and by both: BM25, or the
    sparse vectors of a model that makes such. What made its vectors is stored with it, as far as `upsert` is told, and
    adapters that know their model compare it on opening.

    Collections of LlamaIndex's store are read and written. Those of `langchain_milvus.Milvus`, and of any tool whose columns
    leave no doubt which holds what, are opened under their own names, without being told: for searching, reading and deleting,
    with the same filters, not for writing. Metadata may be columns, lie in the dynamic field, or in a JSON column (one without
    any column beside it is taken for all the metadata). Ids that are integers are decimal strings here.

    A local database belongs to one process at a time. Every method may raise `StoreConnectionError` if it can't be
    opened or reached (with the cause: locked, read-only, no folder, …), `CollectionError` if the collection exists with
    another layout, dimension or metric, and `StoreError` for what else Milvus reports.

    Args:
        uri: Path of a Milvus Lite database (it ends with `.db`; `~`, relative paths and `Path` are fine; its folder
            must exist), or the address of a server (`http://host:19530`, `https://…`).
        collection: Name of the collection.
        token: API key, or `user:password`, of a server; in no repr, log or error.
        db_name: Name of the database on the server.
        metric: `COSINE`, which refuses zero vectors, or `IP`. `L2` is for a collection that exists and was written so, as
            `langchain_milvus.Milvus` does by default; none is created with it, since vectors of unit length, as Qwen3's,
            have the same order by `COSINE`. Scores are then `1 - distance / 2`, the cosine of such vectors.
        consistency: `Strong` sees every write that was acknowledged; the others trade that for speed on a cluster.
        index: `{"index_type": …, "params": {…}}` for a new collection; by default HNSW, M=16, efConstruction=200.
        sparse: The sparse leg that a new collection gets and an existing one must have. `"bm25"` searches words; it costs
            about a third of the writing speed of Milvus Lite, and the texts lie in the database twice. `"model"` compares
            the sparse vectors that the embedding model makes, as DashScope's `text-embedding-v4` does. `None` is no such
            leg. `"auto"` takes what an existing collection has, and makes a new one with BM25, except on servers before
            Milvus 2.5, which don't have it.
        check_model: Whether another model than the one that wrote the collection is refused.
        timeout: Seconds per request. By default pymilvus decides, and connecting takes at most 10 seconds.

    Raises:
        ConfigurationError: If an argument can't work.
    """

    def __init__(
        self,
        uri: str | Path = "./milvus.db",
        collection: str = "qwen3_rag",
        *,
        token: str | None = None,
        db_name: str | None = None,
        metric: Metric = "COSINE",
        consistency: Consistency = "Strong",
        index: Mapping[str, Any] | None = None,
        sparse: SparseOption = "auto",
        check_model: bool = True,
        timeout: float | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w{0,254}", collection, re.ASCII):
            raise ConfigurationError(
                f"collection name {collection!r}: use at most 255 letters, digits and underscores, and no digit first"
            )
        check_choice("metric", metric, METRICS)
        check_choice("consistency", consistency, get_args(Consistency))
        if sparse is not None:
            check_choice("sparse", sparse, ("auto", "bm25", "model"))
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"timeout is {timeout!r} seconds, expected more than 0")
        self._check_model = check_model
        self._session = Session(
            target=Target.parse(uri, token),
            db_name=db_name,
            settings=Settings(
                name=collection,
                metric=metric,
                consistency=consistency,
                index=checked_index(DEFAULT_INDEX if index is None else index),
                sparse=sparse,
                timeout=timeout,
            ),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r}, {self.name!r}, metric={self._session.settings.metric!r})"

    @property
    def name(self) -> str:
        """Name of the collection."""
        return self._session.name

    @property
    def sparse(self) -> SparseOption:
        """The sparse leg that was asked for; `sparse_leg` is what there is."""
        return self._session.settings.sparse

    @property
    def uri(self) -> str:
        """Absolute path of the database, or address of the server, without credentials."""
        return self._session.target.address

    async def averify(self, embedder: Embedder, *, dimensions: int | None = None) -> None:
        """Async twin of `verify`."""
        await asyncio.to_thread(self.verify, embedder, dimensions=dimensions)

    async def aupsert(
        self,
        passages: Sequence[Passage],
        vectors: npt.ArrayLike,
        *,
        sparse: Sequence[AnySparse] | None = None,
        embedder: Embedder | None = None,
        instruction: str | None = None,
    ) -> tuple[Truncation, ...]:
        """Async twin of `upsert`."""
        return await asyncio.to_thread(
            self.upsert, passages, vectors, sparse=sparse, embedder=embedder, instruction=instruction
        )

    async def asearch(self, vector: npt.ArrayLike, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Async twin of `search`."""
        return await asyncio.to_thread(self.search, vector, k, filter=filter)

    async def asearch_with_vectors(
        self,
        vector: npt.ArrayLike,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> tuple[list[Hit], FloatArray]:
        """Async twin of `search_with_vectors`."""
        return await asyncio.to_thread(self.search_with_vectors, vector, k, filter=filter)

    async def asearch_text(self, text: str, k: int = 10, *, filter: AnyFilter | None = None) -> list[Hit]:  # noqa: A002
        """Async twin of `search_text`."""
        return await asyncio.to_thread(self.search_text, text, k, filter=filter)

    async def asearch_sparse(
        self,
        query: str | AnySparse,
        k: int = 10,
        *,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> list[Hit]:
        """Async twin of `search_sparse`."""
        return await asyncio.to_thread(self.search_sparse, query, k, filter=filter)

    async def ahybrid_search(
        self,
        vector: npt.ArrayLike,
        sparse: str | AnySparse,
        k: int = 10,
        *,
        weights: Weights | None = None,
        fetch_k: int | None = None,
        filter: AnyFilter | None = None,  # noqa: A002
    ) -> list[FusedHit]:
        """Async twin of `hybrid_search`."""
        return await asyncio.to_thread(
            self.hybrid_search, vector, sparse, k, weights=weights, fetch_k=fetch_k, filter=filter
        )

    async def aget(self, ids: Sequence[str]) -> list[Passage]:
        """Async twin of `get`."""
        return await asyncio.to_thread(self.get, ids)

    async def afind(self, filter: AnyFilter, limit: int | None = None) -> list[Passage]:  # noqa: A002
        """Async twin of `find`."""
        return await asyncio.to_thread(self.find, filter, limit)

    async def adelete(self, *, ids: Sequence[str] | None = None, filter: AnyFilter | None = None) -> int:  # noqa: A002
        """Async twin of `delete`."""
        return await asyncio.to_thread(self.delete, ids=ids, filter=filter)

    async def acount(self) -> int:
        """Async twin of `count`."""
        return await asyncio.to_thread(self.count)

    def close(self) -> None:
        """Closes the connection and gives a local database back, unless others in this process use it."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
