"""The fields of a collection: their names and limits, a new schema, and the check of an existing one.

One layout that the stores of both frameworks read: `id`, `text`, `doc_id` and `embedding` are columns, everything else
lies in Milvus's dynamic field; `records.py` says what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qwen3_rag.errors import CollectionError

ID: Final = "id"
TEXT: Final = "text"
DOC_ID: Final = "doc_id"
EMBEDDING: Final = "embedding"
NODE_CONTENT: Final = "_node_content"
SHADOW: Final = "_metadata"
OUTPUT_FIELDS: Final = (TEXT, DOC_ID, "$meta")

NO_DOCUMENT: Final = "None"
"""How LlamaIndex spells "this node has no document"."""
ID_BYTES: Final = 512
TEXT_BYTES: Final = 65_535
DYNAMIC_BYTES: Final = 65_536
"""Limit of Milvus servers for one JSON value, which the dynamic field is."""

ENVELOPE: Final = frozenset({NODE_CONTENT, "_node_type", "document_id", DOC_ID, "ref_doc_id"})
_FULL_TEXT: Final = frozenset({"sparse_embedding", "text_bm25"})  # kept free for a BM25 leg
HIDDEN: Final = ENVELOPE | _FULL_TEXT | {ID, TEXT, EMBEDDING, SHADOW}
"""Names that are no metadata in a row that another tool wrote without the envelope."""
RESERVED: Final = HIDDEN | {"_seq", "_partition"}
"""Metadata keys that can't lie beside the columns under their own name."""

_WORDS: Final = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "like",
        "is",
        "null",
        "exists",
        "between",
        "true",
        "false",
        "iso",
        "interval",
        "text_match",
        "phrase_match",
        "random_sample",
        "array_length",
        "array_contains",
        "array_contains_all",
        "array_contains_any",
        "json_contains",
        "json_contains_all",
        "json_contains_any",
    }
)


def is_plain_key(key: str) -> bool:
    """Whether every Milvus takes the key in an expression as it is: an ASCII identifier that is no keyword."""
    return (
        re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) is not None and key not in RESERVED and key.lower() not in _WORDS
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """What has to be known of a collection to write to it and read from it.

    Attributes:
        dimensions: Length of its vectors.
        index_type: Index on the vectors, for example `HNSW`.
        id_bytes: Longest id, in UTF-8 bytes.
        text_bytes: Longest text, in UTF-8 bytes.
        doc_id_bytes: Longest document id, in UTF-8 bytes.
    """

    dimensions: int
    index_type: str = ""
    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES
    doc_id_bytes: int = ID_BYTES


def build_schema(dimensions: int) -> Any:
    """Builds the `pymilvus.CollectionSchema` of a new collection."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    schema.add_field(TEXT, DataType.VARCHAR, max_length=TEXT_BYTES)
    schema.add_field(DOC_ID, DataType.VARCHAR, max_length=ID_BYTES)
    schema.add_field(EMBEDDING, DataType.FLOAT_VECTOR, dim=dimensions)
    return schema


def read_layout(description: Mapping[str, Any], index: Mapping[str, Any] | None, *, metric: str) -> Layout:
    """Reads the layout of an existing collection and checks that it is one that we can use.

    Args:
        description: What `MilvusClient.describe_collection` says.
        index: What `MilvusClient.describe_index` says of the vectors' index, if there is one.
        metric: The metric that is wanted.

    Returns:
        The layout.

    Raises:
        CollectionError: If fields, index or metric don't fit; the message names all of it and the way out.
    """
    from pymilvus import DataType

    fields: dict[str, Any] = {field["name"]: field for field in description["fields"]}
    kinds = dict.fromkeys((ID, TEXT, DOC_ID), DataType.VARCHAR) | {EMBEDDING: DataType.FLOAT_VECTOR}
    problems = [
        f"the field {name!r} is {_type_name(fields.get(name))}, expected {kind.name}"
        for name, kind in kinds.items()
        if fields.get(name, {}).get("type") != kind
    ]
    if not fields.get(ID, {}).get("is_primary"):
        problems.append(f"{ID!r} is not the primary key")
    if not description.get("enable_dynamic_field"):
        problems.append("it has no dynamic field")
    found = None if index is None else index.get("metric_type")
    if found != metric:
        problems.append(f"its vectors are compared by {found or 'no index at all'}, asked was {metric}")
    if problems:
        raise CollectionError(
            f"collection {description['collection_name']!r} does not fit: {'; '.join(problems)}. "
            "Choose another collection name, or drop this one and ingest again"
        )
    lengths = [int(fields[name]["params"]["max_length"]) for name in (ID, TEXT, DOC_ID)]
    return Layout(int(fields[EMBEDDING]["params"]["dim"]), str((index or {}).get("index_type", "")), *lengths)


def _type_name(field: Mapping[str, Any] | None) -> str:
    return "missing" if field is None else str(getattr(field["type"], "name", field["type"]))
