"""The fields of a collection: their names and limits, a new schema, and the check of an existing one.

One layout that the stores of both frameworks read: `id`, `text`, `doc_id` and `embedding` are columns, everything else
lies in Milvus's dynamic field; `records.py` says what. The sparse leg of a hybrid search lies in `sparse_embedding`,
and is of one of two kinds. For BM25, Milvus makes it with a function from one column more: `text_bm25`, the text as
`analysis.py` cuts it. Or it holds the sparse vectors that a model made, compared by inner product.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.contract import Contract

ID: Final = "id"
TEXT: Final = "text"
DOC_ID: Final = "doc_id"
EMBEDDING: Final = "embedding"
TEXT_BM25: Final = "text_bm25"
SPARSE: Final = "sparse_embedding"

SparseLeg: TypeAlias = Literal["bm25", "model"]
"""What the sparse leg of a collection holds: words, for BM25, or the sparse vectors of a model."""
SparseOption: TypeAlias = Literal["auto", "bm25", "model"] | None
"""Which leg is asked for: that of the collection or else BM25 where there is such, one of the two, or none."""
SPARSE_METRICS: Final[Mapping[SparseLeg, str]] = {"bm25": "BM25", "model": "IP"}

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
        sparse: What its sparse leg holds; `None` if it has none.
        full_text: The column that BM25 reads: `TEXT_BM25`, or another in a collection of another tool; `None` if there
            is no BM25.
        contract: What wrote the collection, if it says so.
    """

    dimensions: int
    index_type: str = ""
    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES
    doc_id_bytes: int = ID_BYTES
    sparse: SparseLeg | None = None
    full_text: str | None = None
    contract: Contract | None = None


def build_schema(dimensions: int, *, sparse: SparseLeg | None) -> Any:
    """Builds the `pymilvus.CollectionSchema` of a new collection, with the columns of its sparse leg."""
    from pymilvus import DataType, Function, FunctionType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=ID_BYTES)
    schema.add_field(TEXT, DataType.VARCHAR, max_length=TEXT_BYTES)
    schema.add_field(DOC_ID, DataType.VARCHAR, max_length=ID_BYTES)
    schema.add_field(EMBEDDING, DataType.FLOAT_VECTOR, dim=dimensions)
    if sparse is not None:
        schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
    if sparse == "bm25":
        analyzer = {"enable_analyzer": True, "analyzer_params": {"type": "standard"}}
        schema.add_field(TEXT_BM25, DataType.VARCHAR, max_length=TEXT_BYTES, **analyzer)
        schema.add_function(Function("bm25", FunctionType.BM25, [TEXT_BM25], [SPARSE]))
    return schema


def sparse_index(leg: SparseLeg) -> dict[str, Any]:
    """Arguments of `add_index`. In full, because Milvus Lite takes neither AUTOINDEX nor a ratio of terms to drop."""
    return {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": SPARSE_METRICS[leg], "params": {}}


def has_sparse(description: Mapping[str, Any]) -> bool:
    """Whether `MilvusClient.describe_collection` tells of a sparse leg."""
    return any(field["name"] == SPARSE for field in description["fields"])


def read_layout(
    description: Mapping[str, Any],
    index: Mapping[str, Any] | None,
    sparse_index: Mapping[str, Any] | None,
    *,
    metric: str,
    sparse: SparseOption = "auto",
) -> Layout:
    """Reads the layout of an existing collection and checks that it is one that we can use.

    Args:
        description: What `MilvusClient.describe_collection` says.
        index: What `MilvusClient.describe_index` says of the vectors' index, if there is one.
        sparse_index: The same of the index of the sparse leg.
        metric: The metric that is wanted.
        sparse: The sparse leg that is wanted; `"auto"` is the one that it has.

    Returns:
        The layout.

    Raises:
        CollectionError: If fields, index or metric don't fit; the message names all of it and the way out.
    """
    fields: dict[str, Any] = {field["name"]: field for field in description["fields"]}
    problems = _field_problems(description, fields)
    contract, full_text = Contract.read(description), _bm25_input(description)
    leg: SparseLeg | None = None if SPARSE not in fields else "bm25" if full_text is not None else "model"
    found = None if index is None else index.get("metric_type")
    if found != metric:
        problems.append(f"its vectors are compared by {found or 'no index at all'}, asked was {metric}")
    if leg is not None:
        problems += _sparse_problems(description, fields, leg, sparse_index)
    if sparse not in ("auto", leg):
        problems.append(f"it has the sparse leg {leg!r}, asked was {sparse!r}")
    if contract is not None and contract.sparse not in (None, leg or "none"):
        problems.append(f"it has the sparse leg {leg!r}, and its contract says {contract.sparse!r}")
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
        sparse=leg,
        full_text=full_text,
        contract=contract,
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


def _sparse_problems(
    description: Mapping[str, Any], fields: Mapping[str, Any], leg: SparseLeg, index: Mapping[str, Any] | None
) -> list[str]:
    from pymilvus import DataType

    problems = []
    if fields[SPARSE]["type"] != DataType.SPARSE_FLOAT_VECTOR:
        problems.append(f"the field {SPARSE!r} is {_type_name(fields[SPARSE])}, expected SPARSE_FLOAT_VECTOR")
    if leg == "model" and any(
        SPARSE in function["output_field_names"] for function in description.get("functions", ())
    ):
        problems.append(f"the field {SPARSE!r} is made by a function that is not BM25")
    found = None if index is None else index.get("metric_type")
    if found != SPARSE_METRICS[leg]:
        what = "full text is" if leg == "bm25" else "sparse vectors are"
        problems.append(f"its {what} compared by {found or 'no index at all'}, expected {SPARSE_METRICS[leg]}")
    return problems


def _bm25_input(description: Mapping[str, Any]) -> str | None:
    from pymilvus import FunctionType

    for function in description.get("functions", ()):
        if function["type"] == FunctionType.BM25 and list(function["output_field_names"]) == [SPARSE]:
            return str(function["input_field_names"][0])
    return None


def _type_name(field: Mapping[str, Any] | None) -> str:
    return "missing" if field is None else str(getattr(field["type"], "name", field["type"]))
