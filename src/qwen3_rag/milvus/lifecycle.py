"""Creating a collection with its indexes, and opening one that exists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qwen3_rag.errors import UnsupportedError
from qwen3_rag.milvus.columns import EMBEDDING, SPARSE, Columns
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.recovery import LITE_INDEXES, load_after_restart
from qwen3_rag.milvus.schema import Layout, SparseLeg, SparseOption, build_schema, read_layout, sparse_index

SPARSE_SINCE: Final[Mapping[SparseLeg, tuple[int, int]]] = {"bm25": (2, 5), "model": (2, 4)}
"""First version of Milvus servers that has such a leg."""
INDEX_POLLS: Final = 10
INDEX_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How a collection is opened and, if it does not exist, created.

    Attributes:
        name: Its name.
        metric: `COSINE` or `IP`; `L2` for one that exists.
        consistency: Consistency of every read.
        index: Type and parameters of the index of a new collection.
        sparse: The sparse leg that a new collection gets and an existing one must have.
        timeout: Seconds per request.
    """

    name: str
    metric: str
    consistency: str
    index: Mapping[str, Any]
    sparse: SparseOption
    timeout: float | None


def check_index(connection: Connection, settings: Settings) -> None:
    """Checks the index of a new collection.

    Raises:
        UnsupportedError: If this Milvus can't build it, or can't load it again.
    """
    if connection.lite and settings.index["index_type"] not in LITE_INDEXES:
        raise UnsupportedError(
            f"Milvus Lite can't load an index of type {settings.index['index_type']!r} after a restart; use one of "
            f"{', '.join(LITE_INDEXES)}"
        )


def sparse_of_new(connection: Connection, settings: Settings) -> SparseLeg | None:
    """Says which sparse leg a new collection gets.

    Raises:
        UnsupportedError: If this Milvus has none of the kind that was asked for.
    """
    leg: SparseLeg | None = "bm25" if settings.sparse == "auto" else settings.sparse
    if leg is None or connection.lite or connection.version is None or connection.version >= SPARSE_SINCE[leg]:
        return leg
    if settings.sparse == "auto":
        return None
    what = "full text" if leg == "bm25" else "sparse vectors"
    raise UnsupportedError(
        f"the server at {connection.target.address!r} is Milvus {_dotted(connection.version)}, which has no {what}: use "
        f"Milvus {_dotted(SPARSE_SINCE[leg])} or later, or sparse=None for dense search alone"
    )


def create_bare(
    client: Any, settings: Settings, dimensions: int, properties: Mapping[str, str], *, sparse: SparseLeg | None
) -> None:
    """Creates the collection without an index."""
    client.create_collection(
        settings.name,
        schema=build_schema(dimensions, sparse=sparse),
        consistency_level=settings.consistency,
        properties=dict(properties),
        timeout=settings.timeout,
    )


def create_index(client: Any, settings: Settings, *, sparse: SparseLeg | None) -> None:
    """Creates the indexes of an empty collection."""
    index = client.prepare_index_params()
    index.add_index(EMBEDDING, metric_type=settings.metric, **settings.index)
    if sparse is not None:
        index.add_index(SPARSE, **sparse_index(sparse))
    # Nothing to wait for: the collection is empty. And Milvus Lite lacks what pymilvus would ask while waiting.
    client.create_index(settings.name, index, timeout=settings.timeout, sync=False)


def open_collection(connection: Connection, settings: Settings) -> Layout:
    """Checks and loads a collection that exists: reopened, it is there, but answers nothing until it is loaded.

    Raises:
        CollectionError: If it is none that we can use.
    """
    client = connection.client
    description = client.describe_collection(settings.name, timeout=settings.timeout)
    columns = Columns.of(description)
    dense, sparse = describe_indexes(client, description, columns, settings.timeout)
    layout = read_layout(description, columns, dense, sparse, metric=settings.metric, sparse=settings.sparse)
    if not connection.lite or _is_loaded(client, settings):
        client.load_collection(settings.name, timeout=settings.timeout)
        return layout
    with connection.writing:
        if not _is_loaded(client, settings):
            same = layout.index_type == settings.index["index_type"]
            params = settings.index["params"] if same else {}
            index = {"index_type": layout.index_type, "metric_type": settings.metric, "params": params}
            load_after_restart(connection, settings.name, layout, index)
    return layout


def describe_indexes(
    client: Any, description: Mapping[str, Any], columns: Columns, timeout: float | None, polls: int = INDEX_POLLS
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Describes the indexes on the dense and on the sparse vectors, as far as there are such."""
    name, fields = description["collection_name"], {field["name"] for field in description["fields"]}
    sparse = columns.sparse if columns.sparse in fields else None
    return (
        _describe_index(client, name, columns.embedding, timeout, polls),
        None if sparse is None else _describe_index(client, name, sparse, timeout, polls),
    )


def _describe_index(client: Any, name: str, field: str, timeout: float | None, polls: int) -> Mapping[str, Any] | None:
    """Describes the index on a field; waits a moment for it, because another process may be creating it."""
    for poll in range(polls):
        if poll:
            time.sleep(INDEX_POLL_SECONDS)
        names = client.list_indexes(name, field_name=field)
        if names:
            description: Mapping[str, Any] = client.describe_index(name, names[0], timeout=timeout)
            return description
    return None


def _is_loaded(client: Any, settings: Settings) -> bool:
    return bool(client.get_load_state(settings.name, timeout=settings.timeout)["state"].name == "Loaded")


def _dotted(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version or ()))
