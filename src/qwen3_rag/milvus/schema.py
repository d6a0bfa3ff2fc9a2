"""The fields of a collection: their names and limits, a new schema, and the check of an existing one.

One layout that the stores of both frameworks read: `id`, `text`, `doc_id` and `embedding` are columns, everything else
lies in Milvus's dynamic field; `records.py` says what. For full text there are two columns more: `text_bm25`, the text
as `analysis.py` cuts it, from which Milvus makes `sparse_embedding` with its BM25 function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.contract import Contract

ID: Final = "id"
TEXT: Final = "text"
DOC_ID: Final = "doc_id"
EMBEDDING: Final = "embedding"
TEXT_BM25: Final = "text_bm25"
SPARSE: Final = "sparse_embedding"
SPARSE_INDEX: Final[Mapping[str, Any]] = {
    "index_type": "SPARSE_INVERTED_INDEX",
    "metric_type": "BM25",
    "params": {},
}
"""Arguments of `add_index`. In full, because Milvus Lite takes neither AUTOINDEX nor a ratio of terms to drop."""
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
HIDDEN: Final = ENVELOPE | {ID, TEXT, EMBEDDING, TEXT_BM25, SPARSE, SHADOW}
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
        full_text: The column that BM25 reads: `TEXT_BM25`, or another in a collection of another tool; `None` if there
            is no BM25.
        contract: What wrote the collection, if it says so.
    """

    dimensions: int
    index_type: str = ""
    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES
    doc_id_bytes: int = ID_BYTES
    full_text: str | None = None
    contract: Contract | None = None


def build_schema(dimensions: int, *, full_text: bool) -> Any:
    """Builds the `pymilvus.CollectionSchema` of a new collection, with or without the two columns of full text."""
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    schema.add_field(TEXT, DataType.VARCHAR, max_length=TEXT_BYTES)
    schema.add_field(DOC_ID, DataType.VARCHAR, max_length=ID_BYTES)
    schema.add_field(EMBEDDING, DataType.FLOAT_VECTOR, dim=dimensions)
    if full_text:
        analyzer = {"enable_analyzer": True, "analyzer_params": {"type": "standard"}}
        schema.add_field(TEXT_BM25, DataType.VARCHAR, max_length=TEXT_BYTES, **analyzer)
        schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, [TEXT_BM25], [SPARSE]))
    return schema


def has_full_text(description: Mapping[str, Any]) -> bool:
    """Whether `MilvusClient.describe_collection` tells of a BM25 function into the sparse column."""
    return _bm25_input(description) is not None


def read_layout(
    description: Mapping[str, Any],
    index: Mapping[str, Any] | None,
    sparse_index: Mapping[str, Any] | None,
    *,
    metric: str,
) -> Layout:
    """Reads the layout of an existing collection and checks that it is one that we can use.

    Args:
        description: What `MilvusClient.describe_collection` says.
        index: What `MilvusClient.describe_index` says of the vectors' index, if there is one.
        sparse_index: The same of BM25's index.
        metric: The metric that is wanted.

    Returns:
        The layout.

    Raises:
        CollectionError: If fields, index or metric don't fit; the message names all of it and the way out.
    """
    fields: dict[str, Any] = {field["name"]: field for field in description["fields"]}
    problems = _field_problems(description, fields)
    found = None if index is None else index.get("metric_type")
    if found != metric:
        problems.append(f"its vectors are compared by {found or 'no index at all'}, asked was {metric}")
    full_text = _bm25_input(description)
    found = None if sparse_index is None else sparse_index.get("metric_type")
    if full_text is not None and found != "BM25":
        problems.append(f"its full text is compared by {found or 'no index at all'}, expected BM25")
    if problems:
        raise CollectionError(
            f"collection {description['collection_name']!r} does not fit: {'; '.join(problems)}. "
            "Choose another collection name, or drop this one and ingest again"
        )
    params = {name: fields[name]["params"] for name in (ID, TEXT, DOC_ID, EMBEDDING)}
    return Layout(
        dimensions=int(params[EMBEDDING]["dim"]),
        index_type=str((index or {}).get("index_type", "")),
        id_bytes=int(params[ID]["max_length"]),
        text_bytes=int(params[TEXT]["max_length"]),
        doc_id_bytes=int(params[DOC_ID]["max_length"]),
        full_text=full_text,
        contract=Contract.read(description),
    )


def _field_problems(description: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
    from pymilvus import DataType

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
    return problems


def _bm25_input(description: Mapping[str, Any]) -> str | None:
    from pymilvus import FunctionType

    for function in description.get("functions", ()):
        if function["type"] == FunctionType.BM25 and list(function["output_field_names"]) == [SPARSE]:
            return str(function["input_field_names"][0])
    return None


def _type_name(field: Mapping[str, Any] | None) -> str:
    return "missing" if field is None else str(getattr(field["type"], "name", field["type"]))
