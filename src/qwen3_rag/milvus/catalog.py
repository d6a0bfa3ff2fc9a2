"""Which collections a database has, and what wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_rag.errors import CollectionError, StoreConnectionError
from qwen3_rag.milvus.columns import Columns
from qwen3_rag.milvus.connection import Target, connect
from qwen3_rag.milvus.contract import Contract
from qwen3_rag.milvus.failures import translated
from qwen3_rag.milvus.lifecycle import describe_indexes
from qwen3_rag.milvus.schema import METRICS, SparseLeg, read_layout


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection of a database.

    Attributes:
        name: Its name.
        rows: How many rows it has, roughly: servers count those that were deleted or replaced for a while.
        dimensions: Length of its vectors; `None` if it can't be opened.
        metric: How it compares them; `None` if it can't be opened.
        index_type: Index on them, for example `HNSW`; `None` if it can't be opened.
        sparse: What its sparse leg holds: `"bm25"` words, `"model"` the sparse vectors of a model; `None` if it has none.
        contract: What wrote it, if it says so.
        problem: Why `MilvusCollection` can't open it, if so.
        writable: Whether it can be written to once it is open; one that another tool laid out in its own way can't.
    """

    name: str
    rows: int
    dimensions: int | None = None
    metric: str | None = None
    index_type: str | None = None
    sparse: SparseLeg | None = None
    contract: Contract | None = None
    problem: str | None = None
    writable: bool = True


def list_collections(
    uri: str | Path = "./milvus.db",
    *,
    token: str | None = None,
    db_name: str | None = None,
    timeout: float | None = None,
) -> list[CollectionInfo]:
    """Lists the collections of a database, ours and others', by name; nothing is loaded.

    Args:
        uri: As for `MilvusCollection`.
        token: As for `MilvusCollection`.
        db_name: As for `MilvusCollection`.
        timeout: As for `MilvusCollection`.

    Returns:
        One entry for each collection.

    Raises:
        ConfigurationError: If an argument can't work.
        StoreConnectionError: If there is no such database, or it can't be opened or reached.
    """
    target = Target.parse(uri, token)
    if target.path is not None and not target.path.exists():
        raise StoreConnectionError(f"there is no database {target.address!r}: the first write creates one")
    connection = connect(target, db_name=db_name, timeout=timeout)
    try:
        with translated(f"listing the collections of {target.address!r}", token):
            return [
                _describe(connection.client, name, timeout) for name in sorted(connection.client.list_collections())
            ]
    finally:
        connection.close()


def _describe(client: Any, name: str, timeout: float | None) -> CollectionInfo:
    description = client.describe_collection(name, timeout=timeout)
    rows = int(client.get_collection_stats(name, timeout=timeout)["row_count"])
    try:
        columns = Columns.of(description)
        dense, sparse = describe_indexes(client, description, columns, timeout, polls=1)
        metric = str((dense or {}).get("metric_type"))
        wanted = metric if metric in METRICS else " or ".join(METRICS)
        layout = read_layout(description, columns, dense, sparse, metric=wanted)
    except CollectionError as error:
        return CollectionInfo(name, rows, problem=str(error))
    known = (layout.dimensions, metric, layout.index_type, layout.sparse, layout.contract)
    return CollectionInfo(name, rows, *known, writable=columns.ours)
