"""How a passage becomes a row of a collection and comes back.

The dynamic field of a row holds the metadata keys as they are, so that every tool can filter on them, and the envelope
of LlamaIndex (`llama_index.core.vector_stores.utils.node_to_metadata_dict` with `remove_text=True`): the node as JSON
under `_node_content`, its `_node_type`, and the document's id under `document_id`, `doc_id` and `ref_doc_id`.

The metadata inside `_node_content` is authoritative: readers get that back, so `None`, nested values and keys that
collide with a column survive unchanged. The keys outside are copies to filter on. Two kinds of keys have theirs inside
the dynamic key `_metadata`: those that a column or the envelope occupies, and lists under keys that are no identifiers,
because Milvus Lite can look into a list only under a name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from qwen3_rag.errors import InputError
from qwen3_rag.milvus.analysis import analyse_within
from qwen3_rag.milvus.columns import (
    DOC_ID,
    EMBEDDING,
    ID,
    NO_DOCUMENT,
    NODE_CONTENT,
    OURS,
    RESERVED,
    SHADOW,
    SPARSE,
    TEXT,
    TEXT_BM25,
    Columns,
    is_plain_key,
)
from qwen3_rag.milvus.schema import DYNAMIC_BYTES, TEXT_BYTES, Layout
from qwen3_rag.types import FloatArray, Passage, Truncation

BATCH_ROWS: Final = 1_000
BATCH_BYTES: Final = 16 * 2**20
"""A quarter of what a Milvus server takes in one message by default."""
MAX_METADATA_DEPTH: Final = 32
FULL_TEXT: Final = "full text"
"""The part of a passage that a `Truncation` of a write is about; its tokens are words."""

_APART: Final = frozenset({"id_", "text", "text_resource", "metadata", "embedding"})
"""Parts of a node that a passage has under names of its own."""
_ABSENT: Final = object()
TEXT_NODE: Final = "TextNode"
_TEXT_NODE_DEFAULTS: Final[Mapping[str, Any]] = {
    "embedding": None,
    "excluded_embed_metadata_keys": [],
    "excluded_llm_metadata_keys": [],
    "metadata_template": "{key}: {value}",
    "metadata_separator": "\n",
    "text": "",
    "mimetype": "text/plain",
    "start_char_idx": None,
    "end_char_idx": None,
    "text_template": "{metadata_str}\n\n{content}",
}
_INT64: Final = range(-(2**63), 2**63)
NO_WEIGHTS: Final[Mapping[int, float]] = {2**32 - 2: 1.0}
"""What lies in the column of a sparse vector without entries, which Milvus Lite does not take: the last index that Milvus
takes, which `checks.py` lets no vector have, so that no search meets it."""


def to_rows(passages: Sequence[Passage], vectors: FloatArray, layout: Layout) -> list[dict[str, Any]]:
    """Turns passages into rows, after checking them.

    Args:
        passages: The passages; not changed.
        vectors: Shape `(len(passages), layout.dimensions)`.
        layout: The limits of the collection.

    Returns:
        The rows, in order.

    Raises:
        InputError: If any passage can't be stored; the message names its id and the reason.
    """
    seen: set[str] = set()
    rows = []
    for passage, vector in zip(passages, vectors, strict=True):
        _check_passage(passage, layout)
        if passage.id in seen:
            raise InputError(f"two passages of one upsert have the id {passage.id!r}; ids must be unique")
        seen.add(passage.id)
        rows.append({ID: passage.id, TEXT: passage.text, EMBEDDING: vector, **_dynamic(passage)})
    return rows


def with_full_text(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[Truncation, ...]]:
    """Adds the texts for BM25.

    Args:
        rows: Rows as `to_rows` returns them; not changed.

    Returns:
        The rows with one column more, and those whose words did not all fit into it.
    """
    analysed = [analyse_within(row[TEXT], TEXT_BYTES) for row in rows]
    cut = [Truncation(i, FULL_TEXT, a.words, a.kept) for i, a in enumerate(analysed) if a.kept < a.words]
    return [row | {TEXT_BM25: a.text} for row, a in zip(rows, analysed, strict=True)], tuple(cut)


def with_sparse(rows: Sequence[dict[str, Any]], weights: Sequence[dict[int, float]]) -> list[dict[str, Any]]:
    """Adds the sparse vectors of a model, as `checked_sparse` returns them, to rows, which are not changed."""
    return [row | {SPARSE: found or dict(NO_WEIGHTS)} for row, found in zip(rows, weights, strict=True)]


def batches(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Splits rows into requests of at most `BATCH_ROWS` rows and about `BATCH_BYTES` bytes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        # A character takes up to 4 bytes, and the metadata lies in the row twice.
        texts = 4 * (len(row[TEXT]) + len(row.get(TEXT_BM25, "")))
        numbers = row[EMBEDDING].nbytes + 8 * len(row.get(SPARSE, ()))
        row_size = numbers + texts + min(8 * len(row[NODE_CONTENT]), DYNAMIC_BYTES) + 1024
        if batch and (len(batch) == BATCH_ROWS or size + row_size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row_size
    if batch:
        yield batch


def to_passage(id: str | int, fields: Mapping[str, Any], columns: Columns = OURS) -> Passage:  # noqa: A002 - the field
    """Turns a row that Milvus returned into a passage, whichever tool wrote it.

    Args:
        id: Its primary key.
        fields: The row.
        columns: Under which names it keeps what.
    """
    given = None if columns.doc_id is None else fields.get(columns.doc_id)
    document = None if given in (None, "", NO_DOCUMENT) else given
    content = _content(fields)
    metadata = content.get("metadata")
    return Passage(
        id=str(id),
        text=fields.get(columns.text) or "",
        metadata=columns.metadata_of(fields) if metadata is None else metadata,
        doc_id=document,
        node=_beyond(content, document),
    )


def _content(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The node inside the envelope; empty where there is no envelope, or none that is LlamaIndex's."""
    try:
        content = json.loads(fields[NODE_CONTENT])
    except (KeyError, TypeError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("metadata"), dict) else {}


def _dynamic(passage: Passage) -> dict[str, Any]:
    """The dynamic part of a row, and the column `doc_id`, which belongs to the envelope too."""
    given = {key: value for key, value in passage.metadata.items() if value is not None and key and key[0] != "$"}
    dynamic: dict[str, Any] = {key: value for key, value in given.items() if key not in RESERVED}
    shadow = {key: value for key, value in given.items() if _needs_shadow(key, value)}
    if shadow:
        dynamic[SHADOW] = shadow
    dynamic |= _envelope(passage)
    size = len(_compact(dynamic).encode())
    if size > DYNAMIC_BYTES:
        raise InputError(
            f"passage {passage.id!r}: its metadata takes {size} bytes as stored (once to read, once to filter on), "
            f"Milvus allows {DYNAMIC_BYTES}; leave out what need not be stored"
        )
    return dynamic


def _needs_shadow(key: str, value: Any) -> bool:
    return key in RESERVED or (isinstance(value, list) and not is_plain_key(key))


def _envelope(passage: Passage) -> dict[str, Any]:
    """What `node_to_metadata_dict` of LlamaIndex 0.14 writes for a node with this id, metadata and document."""
    document = passage.doc_id
    node = _node(passage)
    names = dict.fromkeys(("document_id", DOC_ID, "ref_doc_id"), NO_DOCUMENT if document is None else document)
    return {NODE_CONTENT: _compact(node), "_node_type": node["class_name"], **names}


def _node(passage: Passage) -> dict[str, Any]:
    """The node as JSON has it: a `TextNode`, as far as the passage says nothing else."""
    document = passage.doc_id
    source: dict[str, Any] = {"node_id": document, "node_type": None, "metadata": {}, "hash": None}
    relationships = {} if document is None else {"1": source | {"class_name": "RelatedNodeInfo"}}
    node = {
        "id_": passage.id,
        "metadata": dict(passage.metadata),
        "relationships": relationships,
        "class_name": TEXT_NODE,
    }
    if passage.node.get("class_name", TEXT_NODE) == TEXT_NODE:
        node |= _TEXT_NODE_DEFAULTS
    return node | dict(passage.node)


def _beyond(content: Mapping[str, Any], document: str | None) -> dict[str, Any]:
    """What a node holds that a passage does not: the reverse of `_node`."""
    kind = content.get("class_name", TEXT_NODE)
    plain = _node(Passage("", "", {}, document, {"class_name": kind}))
    if kind != TEXT_NODE:
        del plain["class_name"]
    return {key: value for key, value in content.items() if key not in _APART and value != plain.get(key, _ABSENT)}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _check_passage(passage: Passage, layout: Layout) -> None:
    _check_text(passage.id, layout.id_bytes, f"passage id {passage.id!r}")
    if not passage.id:
        raise InputError("a passage has an empty id; give every passage a stable one")
    where = f"passage {passage.id!r}"
    _check_text(passage.text, layout.text_bytes, f"{where}: its text")
    if passage.doc_id is not None:
        _check_text(passage.doc_id, layout.doc_id_bytes, f"{where}: its doc_id")
        if passage.doc_id in ("", NO_DOCUMENT):
            raise InputError(f"{where}: doc_id {passage.doc_id!r} stands for 'no document' in a collection; pass None")
    if not isinstance(passage.metadata, Mapping):
        raise InputError(f"{where}: its metadata is {type(passage.metadata).__name__}, expected a mapping")
    _check_json(dict(passage.metadata), f"{where}: metadata")
    _check_json(dict(passage.node), f"{where}: node")
    if taken := sorted(_APART & passage.node.keys()):
        raise InputError(f"{where}: node can't have {', '.join(map(repr, taken))}: the passage has its own")


def _check_text(value: Any, limit: int, what: str) -> None:
    if not isinstance(value, str):
        raise InputError(f"{what} is {type(value).__name__}, expected str")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid Unicode at character {error.start}: {error.reason}") from error
    if size > limit:
        raise InputError(f"{what} takes {size} bytes in UTF-8, the collection allows {limit}; split or shorten it")


def _check_json(value: Any, where: str, depth: int = 0) -> None:
    """Refuses what would not come back equal: JSON knows no tuples, keys that are no strings, NaN or long integers."""
    if depth > MAX_METADATA_DEPTH:
        raise InputError(f"{where} is nested deeper than {MAX_METADATA_DEPTH} levels")
    if type(value) is list:
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]", depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InputError(f"{where} has the key {key!r}, and JSON has only string keys")
            _check_text(key, DYNAMIC_BYTES, f"{where}: the key {key!r}")
            _check_json(item, f"{where}[{key!r}]", depth + 1)
    else:
        _check_scalar(value, where)


def _check_scalar(value: Any, where: str) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value, DYNAMIC_BYTES, where)
    elif kind is int and value not in _INT64:
        raise InputError(f"{where} = {value} does not fit 64 bits; store it as a string")
    elif kind is float and not math.isfinite(value):
        raise InputError(f"{where} = {value!r} has no JSON form; use None or leave it out")
    elif kind not in (int, float, bool, type(None)):
        raise InputError(
            f"{where} is {kind.__name__}, which JSON does not bring back as it was; "
            "use str, int, float, bool, None, list or dict"
        )
