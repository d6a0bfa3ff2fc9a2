"""Creating a collection with its indexes, and opening one that exists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qwen3_rag.errors import UnsupportedError
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.recovery import LITE_INDEXES, load_after_restart
from qwen3_rag.milvus.schema import EMBEDDING, SPARSE, SPARSE_INDEX, Layout, build_schema, has_full_text, read_layout

BM25_SINCE: Final = (2, 5)
"""First version of Milvus servers that has full text."""
INDEX_POLLS: Final = 10
INDEX_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How a collection is opened and, if it does not exist, created.

    Attributes:
        name: Its name.
        metric: `COSINE` or `IP`.
        consistency: Consistency of every read.
        index: Type and parameters of the index of a new collection.
        full_text: Whether a new collection gets full text; `None` is where this Milvus has it.
        timeout: Seconds per request.
    """

    name: str
    metric: str
    consistency: str
    index: Mapping[str, Any]
    full_text: bool | None
    timeout: float | None


def checked_full_text(connection: Connection, settings: Settings) -> bool:
    """Says whether a new collection gets full text.

    Raises:
        UnsupportedError: If this Milvus can't build the indexes that were asked for.
    """
    if connection.lite and settings.index["index_type"] not in LITE_INDEXES:
        raise UnsupportedError(
            f"Milvus Lite can't load an index of type {settings.index['index_type']!r} after a restart; use one of "
            f"{', '.join(LITE_INDEXES)}"
        )
    able = connection.lite or connection.version is None or connection.version >= BM25_SINCE
    if settings.full_text and not able:
        raise UnsupportedError(
            f"the server at {connection.target.address!r} is Milvus {_dotted(connection.version)}, which has no full "
            f"text: use Milvus {_dotted(BM25_SINCE)} or later, or full_text=False for dense search alone"
        )
    return able if settings.full_text is None else settings.full_text


def create_bare(
    client: Any, settings: Settings, dimensions: int, properties: Mapping[str, str], *, full_text: bool
) -> None:
    """Creates the collection without an index."""
    client.create_collection(
        settings.name,
        schema=build_schema(dimensions, full_text=full_text),
        consistency_level=settings.consistency,
        properties=dict(properties),
        timeout=settings.timeout,
    )


def create_index(client: Any, settings: Settings, *, full_text: bool) -> None:
    """Creates the indexes of an empty collection."""
    index = client.prepare_index_params()
    index.add_index(EMBEDDING, metric_type=settings.metric, **settings.index)
    if full_text:
        index.add_index(SPARSE, **SPARSE_INDEX)
    # Nothing to wait for: the collection is empty. And Milvus Lite lacks what pymilvus would ask while waiting.
    client.create_index(settings.name, index, timeout=settings.timeout, sync=False)


def open_collection(connection: Connection, settings: Settings) -> Layout:
    """Checks and loads a collection that exists: reopened, it is there, but answers nothing until it is loaded.

    Raises:
        CollectionError: If it is none that we can use.
    """
    client = connection.client
    description = client.describe_collection(settings.name, timeout=settings.timeout)
    dense = describe_index(client, settings.name, EMBEDDING, settings.timeout)
    sparse = describe_index(client, settings.name, SPARSE, settings.timeout) if has_full_text(description) else None
    layout = read_layout(description, dense, sparse, metric=settings.metric)
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


def describe_index(
    client: Any, name: str, field: str, timeout: float | None, polls: int = INDEX_POLLS
) -> Mapping[str, Any] | None:
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
