"""Puts right what Milvus Lite leaves behind when its process is killed.

It loses no row that it acknowledged. But (Milvus Lite 3.2.2)

* killed while it writes an index, it can't load the collection any more, until the index is built again;
* killed while it flushes, it finds the rows of that flush twice afterwards, on disk and in its log, and returns and
  counts them twice. The next flush overwrites the same file and so puts that right, unless the file was merged with
  others before; then the rows of our collections are written once more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.columns import ID
from qwen3_rag.milvus.connection import Connection
from qwen3_rag.milvus.expressions import id_in
from qwen3_rag.milvus.failures import captured
from qwen3_rag.milvus.schema import Layout, sparse_index

LITE_INDEXES: Final = ("HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "FLAT", "AUTOINDEX")
"""What Milvus Lite can load again. It accepts others, works until the restart, and then can't open the collection."""
_DAMAGED: Final = ("faiss", "No data left in file", "pickled (object) data", "EOF: reading array")
"""What faiss says of half an index, and NumPy, which reads those of the types FLAT and AUTOINDEX."""
_CHUNK: Final = 500

_log = logging.getLogger(__name__)


def load_after_restart(connection: Connection, name: str, layout: Layout, index: Mapping[str, Any]) -> None:
    """Loads a collection of Milvus Lite for the first time since its process began.

    Args:
        connection: The connection; nobody writes meanwhile.
        name: The collection.
        layout: Its layout.
        index: Arguments of `add_index` with which to build the index again if need be.

    Raises:
        CollectionError: If the index is of a type that Milvus Lite can't load.
        MilvusException: If Milvus Lite fails otherwise.
    """
    from pymilvus.exceptions import MilvusException

    try:
        with captured("milvus_lite.adapter.grpc.servicer", any_thread=True):
            connection.client.load_collection(name)
    except MilvusException as error:
        if layout.index_type not in LITE_INDEXES:
            raise CollectionError(
                f"collection {name!r} was created with the index {layout.index_type}, which Milvus Lite can't load again. "
                f"Drop that index and create one of {', '.join(LITE_INDEXES)}; the rows are intact"
            ) from error
        if not any(words in str(error) for words in _DAMAGED):
            raise
        _log.warning("the index of collection %r is damaged, after a crash presumably: building it again", name)
        _rebuild_index(connection.client, name, index, layout)
    if connection.may_follow_crash:
        connection.client.flush(name)
        if layout.columns.ours:  # the rows of another tool are not ours to write
            _rewrite_repeated_rows(connection.client, name)


def _rebuild_index(client: Any, name: str, index: Mapping[str, Any], layout: Layout) -> None:
    dense, sparse = layout.columns.embedding, layout.columns.sparse
    client.drop_index(name, *client.list_indexes(name, field_name=dense))
    params = client.prepare_index_params()
    params.add_index(dense, **index)
    if layout.sparse is not None and not client.list_indexes(name, field_name=sparse):  # Milvus Lite drops all for one
        params.add_index(sparse, **sparse_index(layout.sparse))
    client.create_index(name, params, sync=False)
    client.load_collection(name)


def _rewrite_repeated_rows(client: Any, name: str) -> None:
    rows = client.query(name, filter=f'{ID} != ""', output_fields=[ID])
    repeated = [id_ for id_, times in Counter(row[ID] for row in rows).items() if times > 1]
    if not repeated:
        return
    _log.warning("collection %r has %d rows twice, after a crash: writing them once more", name, len(repeated))
    functions = client.describe_collection(name).get("functions", ())
    computed = {field for function in functions for field in function["output_field_names"]}
    for start in range(0, len(repeated), _CHUNK):
        found = client.query(name, filter=id_in(repeated[start : start + _CHUNK]), output_fields=["*"])
        once = {row[ID]: {key: value for key, value in row.items() if key not in computed} for row in found}
        client.insert(name, list(once.values()))
    client.flush(name)
