"""The schema of a new collection, its limits, and the layout of an existing one.

The columns of ours are in `columns.py`. The sparse leg of a hybrid search lies in `sparse_embedding`, and is of one of two
kinds. For BM25, Milvus makes it with a function from one column more: `text_bm25`, the text as `analysis.py` cuts it. Or it
holds the sparse vectors that a model made, compared by inner product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.columns import DOC_ID, EMBEDDING, ID, OURS, SPARSE, TEXT, TEXT_BM25, Columns, type_name
from qwen3_rag.milvus.contract import Contract

SparseLeg: TypeAlias = Literal["bm25", "model"]
"""What the sparse leg of a collection holds: words, for BM25, or the sparse vectors of a model."""
SparseOption: TypeAlias = Literal["auto", "bm25", "model"] | None
"""Which leg is asked for: that of the collection or else BM25 where there is such, one of the two, or none."""
SPARSE_METRICS: Final[Mapping[SparseLeg, str]] = {"bm25": "BM25", "model": "IP"}

Metric: TypeAlias = Literal["COSINE", "IP", "L2"]
"""How the vectors of a collection may be compared; ours by one of the first two."""
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
ID_BYTES: Final = 512
TEXT_BYTES: Final = 65_535
DYNAMIC_BYTES: Final = 65_536
"""Limit of Milvus servers for one JSON value, which the dynamic field is."""


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
        columns: Under which names it keeps what.
        consistency: How it is read when a request asks for no level.
    """

    dimensions: int
    index_type: str = ""
    id_bytes: int = ID_BYTES
    text_bytes: int = TEXT_BYTES
    doc_id_bytes: int = ID_BYTES
    sparse: SparseLeg | None = None
    full_text: str | None = None
    contract: Contract | None = None
    columns: Columns = OURS
    consistency: str = "Strong"


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


def read_layout(
    description: Mapping[str, Any],
    columns: Columns,
    index: Mapping[str, Any] | None,
    sparse_index: Mapping[str, Any] | None,
    *,
    metric: str,
    sparse: SparseOption = "auto",
) -> Layout:
    """Reads the layout of an existing collection and checks that it is one that we can use.

    Args:
        description: What `MilvusClient.describe_collection` says.
        columns: Its columns.
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
    problems = []
    contract, full_text = Contract.read(description), _bm25_input(description, columns)
    leg: SparseLeg | None = None
    if columns.sparse is not None and columns.sparse in fields:
        leg = "model" if full_text is None else "bm25"
        problems += _sparse_problems(description, fields[columns.sparse], leg, sparse_index)
    found = None if index is None else index.get("metric_type")
    if found != metric:
        instead = f" (open it with metric={found!r})" if found in METRICS else ""
        problems.insert(0, f"its vectors are compared by {found or 'no index at all'}, asked was {metric}{instead}")
    if sparse not in ("auto", leg):
        problems.append(f"it has the sparse leg {leg!r}, asked was {sparse!r}")
    if contract is not None and contract.sparse not in (None, leg or "none"):
        problems.append(f"it has the sparse leg {leg!r}, and its contract says {contract.sparse!r}")
    if problems:
        raise CollectionError(
            f"collection {description['collection_name']!r} does not fit: {'; '.join(problems)}. "
            "Choose another collection name, or drop this one and ingest again"
        )
    return Layout(
        dimensions=int(fields[columns.embedding]["params"]["dim"]),
        index_type=str((index or {}).get("index_type", "")),
        id_bytes=_bytes(fields, columns.id, ID_BYTES),
        text_bytes=_bytes(fields, columns.text, TEXT_BYTES),
        doc_id_bytes=_bytes(fields, columns.doc_id, ID_BYTES),
        sparse=leg,
        full_text=full_text,
        contract=contract,
        columns=columns,
        consistency=str(description.get("consistency_level_name", "")),
    )


def _bytes(fields: Mapping[str, Any], name: str | None, default: int) -> int:
    """The longest string that a column takes, if it is one of strings."""
    return default if name is None else int(fields[name]["params"].get("max_length", default))


def _sparse_problems(
    description: Mapping[str, Any], field: Mapping[str, Any], leg: SparseLeg, index: Mapping[str, Any] | None
) -> list[str]:
    from pymilvus import DataType

    problems, name = [], field["name"]
    if field["type"] != DataType.SPARSE_FLOAT_VECTOR:
        problems.append(f"the field {name!r} is {type_name(field['type'])}, expected SPARSE_FLOAT_VECTOR")
    if leg == "model" and any(name in function["output_field_names"] for function in description.get("functions", ())):
        problems.append(f"the field {name!r} is made by a function that is not BM25")
    found = None if index is None else index.get("metric_type")
    if found != SPARSE_METRICS[leg]:
        what = "full text is" if leg == "bm25" else "sparse vectors are"
        problems.append(f"its {what} compared by {found or 'no index at all'}, expected {SPARSE_METRICS[leg]}")
    return problems


def _bm25_input(description: Mapping[str, Any], columns: Columns) -> str | None:
    from pymilvus import FunctionType

    for function in description.get("functions", ()):
        if function["type"] == FunctionType.BM25 and list(function["output_field_names"]) == [columns.sparse]:
            return str(function["input_field_names"][0])
    return None
