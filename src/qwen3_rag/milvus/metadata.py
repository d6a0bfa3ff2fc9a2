"""Changing the metadata of stored passages: their texts and vectors are copied, so nothing is embedded again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from qwen3_rag.milvus.collection import MilvusCollection
from qwen3_rag.milvus.columns import DYNAMIC, EMBEDDING, ID
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.expressions import compile_condition
from qwen3_rag.milvus.filters import Filter
from qwen3_rag.milvus.records import batches, to_passage, to_rows
from qwen3_rag.milvus.schema import Layout
from qwen3_rag.milvus.session import IDS_PER_REQUEST, ROWS_PER_REQUEST, Session

_NOTHING: Final[list[str]] = []


def replace_metadata(collection: MilvusCollection, changes: Mapping[str, Mapping[str, Any]]) -> int:
    """Gives stored passages other metadata.

    Args:
        collection: The collection.
        changes: The whole new metadata of each passage, by id; ids that are not stored don't matter.

    Returns:
        How many passages were changed.

    Raises:
        InputError: If some metadata can't be stored.
        CollectionError: If another tool laid out the collection in its own way; nothing was changed.
        StoreError: If Milvus fails; every passage has either its old or its new metadata.
    """
    if not changes:
        return 0
    session = _session(collection)

    def send(connection: Connection, layout: Layout) -> int:
        columns, written, ids = _columns(connection, session), 0, list(changes)
        for start in range(0, len(ids), ROWS_PER_REQUEST):
            rows = session.query_rows(ids[start : start + ROWS_PER_REQUEST], [*columns, DYNAMIC])
            for batch in batches([_changed(row, changes[row[ID]], columns, layout) for row in rows]):
                session.replace(connection, batch)
                written += len(batch)
        return written

    with session.writing():
        session.check_writable()
        return session.run("writing to", 0, send)


def find_ids(collection: MilvusCollection, condition: Filter) -> Iterator[list[str]]:
    """Yields the ids of the passages that match, in order, some thousands at a time; those may be deleted meanwhile.

    Raises:
        FilterError: If the filter can't be expressed.
    """
    session, after = _session(collection), ""
    compile_condition(condition)  # refuses at once what has no meaning
    while True:
        if ids := session.run("reading from", _NOTHING, partial(_page, session, condition, after)):
            yield ids
        if len(ids) < IDS_PER_REQUEST:
            return
        after = ids[-1]


def _page(session: Session, condition: Filter, after: str, _connection: Connection, layout: Layout) -> list[str]:
    compiled = compile_condition(condition, layout.columns)
    return session.query_ids(layout, compiled, IDS_PER_REQUEST, after=after)


def _session(collection: MilvusCollection) -> Session:
    return collection._session  # noqa: SLF001 - of the same room


def _columns(connection: Connection, session: Session) -> list[str]:
    """The columns that were written, not computed."""
    description = connection.client.describe_collection(session.name, timeout=session.timeout)
    computed = {name for function in description.get("functions", ()) for name in function["output_field_names"]}
    return [field["name"] for field in description["fields"] if field["name"] not in computed | {DYNAMIC}]


def _changed(
    row: Mapping[str, Any], metadata: Mapping[str, Any], columns: Sequence[str], layout: Layout
) -> dict[str, Any]:
    passage = replace(to_passage(row[ID], row), metadata=metadata)
    (changed,) = to_rows([passage], np.asarray([row[EMBEDDING]], np.float32), layout)
    return {name: row[name] for name in columns} | changed
