"""The names under which a collection keeps a passage: ours, which are LlamaIndex's too, and those of other tools.

Ours: `id`, `text`, `doc_id` and `embedding` are columns, and everything else lies in Milvus's dynamic field; `records.py`
says what. Collections of other tools, such as `langchain_milvus.Milvus`, can be read and deleted from under whatever names
they have, as long as it is unmistakable which column is what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

from qwen3_rag.errors import CollectionError
from qwen3_rag.milvus.contract import Contract

ID: Final = "id"
TEXT: Final = "text"
DOC_ID: Final = "doc_id"
EMBEDDING: Final = "embedding"
TEXT_BM25: Final = "text_bm25"
SPARSE: Final = "sparse_embedding"
DYNAMIC: Final = "$meta"

NODE_CONTENT: Final = "_node_content"
SHADOW: Final = "_metadata"

NO_DOCUMENT: Final = "None"
"""How LlamaIndex spells "this node has no document"."""

ENVELOPE: Final = frozenset({NODE_CONTENT, "_node_type", "document_id", DOC_ID, "ref_doc_id"})
HIDDEN: Final = ENVELOPE | {ID, TEXT, EMBEDDING, TEXT_BM25, SPARSE, SHADOW}
"""Names that are no metadata in a row that another tool wrote without the envelope."""
RESERVED: Final = HIDDEN | {"_seq", "_partition"}
"""Metadata keys that can't lie beside the columns under their own name."""

Kind: TypeAlias = Literal["string", "integer", "single", "double", "boolean", "list", "other"]
"""What a column holds; `single` and `double` are numbers of 32 and 64 bits."""

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("VARCHAR", "TEXT"), "string"),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), "integer"),
    "FLOAT": "single",
    "DOUBLE": "double",
    "BOOL": "boolean",
    "ARRAY": "list",
}
_OWN_TYPES: Final = {ID: "VARCHAR", TEXT: "VARCHAR", DOC_ID: "VARCHAR", EMBEDDING: "FLOAT_VECTOR"}
_DENSE, _SPARSE = "FLOAT_VECTOR", "SPARSE_FLOAT_VECTOR"

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


def is_name(text: str) -> bool:
    """Whether every Milvus takes the text in an expression as a name: an ASCII identifier that is no keyword."""
    return re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII) is not None and text.lower() not in _WORDS


def is_plain_key(key: str) -> bool:
    """Whether a metadata key can lie in the dynamic field of our collections, and in an expression, as it is."""
    return is_name(key) and key not in RESERVED


@dataclass(frozen=True, slots=True)
class Column:
    """A column that holds the value of one metadata key, its name.

    Attributes:
        name: The key.
        kind: What it holds.
        nullable: Whether a row may have none.
        element: What its lists hold, if it holds lists.
    """

    name: str
    kind: Kind
    nullable: bool = False
    element: Kind = "other"


@dataclass(frozen=True, slots=True)
class Columns:
    """Under which names a collection keeps what a passage is made of.

    Attributes:
        id: The primary key.
        text: The text.
        embedding: The dense vector.
        sparse: The sparse vector; the name under which it would lie if there is none in ours, `None` if there is none in
            the collection of another tool.
        doc_id: The id of the document; `None` if the collection knows no documents.
        integer_ids: Whether ids are integers; a passage has them as decimal strings.
        metadata: Metadata keys that are columns of their own.
        json: A JSON column that holds the metadata of a row as a whole, if there is one.
        dynamic: Whether all other metadata keys lie in the dynamic field.
        structure: All columns that hold no metadata.
    """

    id: str = ID
    text: str = TEXT
    embedding: str = EMBEDDING
    sparse: str | None = SPARSE
    doc_id: str | None = DOC_ID
    integer_ids: bool = False
    metadata: tuple[Column, ...] = ()
    json: str | None = None
    dynamic: bool = True
    structure: frozenset[str] = HIDDEN

    @staticmethod
    def of(description: Mapping[str, Any]) -> Columns:
        """Recognises the columns of a collection.

        Ours, and LlamaIndex's, come first. In any other, the text is the column `text`, else what BM25 reads, else the
        only column of strings that is no key. What is neither id, text nor vector is metadata: a single JSON column
        without anything beside it holds all of them, as `metadata_field` of `langchain_milvus` makes it.

        Args:
            description: What `MilvusClient.describe_collection` says.

        Raises:
            CollectionError: If it is not clear which column is what; the message names them and the way out.
        """
        fields = {field["name"]: field for field in description["fields"] if not field["name"].startswith("$")}
        problems = _own_problems(fields, description)
        if not problems:
            return OURS
        if Contract.read(description) is None:
            parts = _Parts.of(fields, description)
            problems = parts.problems()
            if not problems:
                return parts.columns()
        raise CollectionError(
            f"collection {description['collection_name']!r} does not fit: {'; '.join(problems)}. Choose another "
            "collection name, drop this one and ingest again, or search it through the store that wrote it, which "
            "Qwen3Retriever takes as it is"
        )

    @property
    def ours(self) -> bool:
        """Whether it is the layout that we write."""
        return self == OURS

    @property
    def output_fields(self) -> tuple[str, ...]:
        """What to ask for to get a passage, beside the id."""
        names = [self.text, self.doc_id, *(column.name for column in self.metadata), self.json]
        return (*(name for name in names if name is not None), *([DYNAMIC] if self.dynamic else ()))

    def metadata_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata in a row, where no envelope of LlamaIndex holds them."""
        if self.json is not None:
            found = row.get(self.json)
            return dict(found) if isinstance(found, Mapping) else {}
        return {key: value for key, value in row.items() if key not in self.structure}

    def keys(self, ids: Iterable[str]) -> list[str | int]:
        """The primary keys of passages, without those that no row can have."""
        if not self.integer_ids:
            return list(ids)
        return [int(id_) for id_ in ids if is_integer_id(id_)]

    def __str__(self) -> str:
        names = {"ids": self.id, "texts": self.text, "vectors": self.embedding}
        return ", ".join(f"{what} in {name!r}" for what, name in names.items())


OURS: Final = Columns()
"""What we write, and the store of LlamaIndex."""


def is_integer_id(id_: str) -> bool:
    """Whether a string is how a passage's id spells an integer key."""
    return re.fullmatch(r"0|-?[1-9][0-9]{0,18}", id_) is not None and abs(int(id_)) < 2**63


@dataclass(frozen=True, slots=True)
class _Parts:
    """The columns of a collection of another tool, sorted by what they can be."""

    fields: Mapping[str, Any]
    dynamic: bool
    computed: frozenset[str]
    bm25: tuple[str, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any], description: Mapping[str, Any]) -> Self:
        from pymilvus import FunctionType

        functions: Sequence[Mapping[str, Any]] = description.get("functions", ())
        computed = frozenset(name for function in functions for name in function["output_field_names"])
        read = [f["input_field_names"][0] for f in functions if f["type"] == FunctionType.BM25]
        return cls(fields, bool(description.get("enable_dynamic_field")), computed, tuple(dict.fromkeys(read)))

    def of_type(self, *types: str) -> list[str]:
        return [name for name, field in self.fields.items() if _type(field) in types]

    @property
    def ids(self) -> list[str]:
        return [name for name in self.of_type("VARCHAR", "INT64") if self.fields[name].get("is_primary")]

    @property
    def texts(self) -> list[str]:
        strings = [name for name in self.of_type("VARCHAR", "TEXT") if name not in self.ids]
        if TEXT in strings:
            return [TEXT]
        free = [name for name in strings if not self.fields[name].get("is_partition_key")]
        return [name for name in self.bm25 if name in strings] or free

    def problems(self) -> list[str]:
        wanted = {
            "a primary key of strings or 64-bit integers": self.ids,
            "one column of 32-bit float vectors": self.of_type(_DENSE),
            "one column of texts": self.texts,
        }
        problems = [
            f"it has {_listed(found)} where there should be {what}" for what, found in wanted.items() if len(found) != 1
        ]
        if len(sparse := self.of_type(_SPARSE)) > 1:
            problems.append(f"it has {_listed(sparse)} where there should be at most one column of sparse vectors")
        return problems

    def columns(self) -> Columns:
        """What the columns are, if there are no problems."""
        (id_,), (text,), (embedding,) = self.ids, self.texts, self.of_type(_DENSE)
        vectors = {name for name, field in self.fields.items() if "VECTOR" in _type(field)}
        structure = {id_, text} | vectors | self.computed
        metadata = tuple(_column(field) for name, field in self.fields.items() if name not in structure)
        whole = not self.dynamic and [_type(self.fields[column.name]) for column in metadata] == ["JSON"]
        return Columns(
            id=id_,
            text=text,
            embedding=embedding,
            sparse=next(iter(self.of_type(_SPARSE)), None),
            doc_id=None,
            integer_ids=_type(self.fields[id_]) == "INT64",
            metadata=() if whole else metadata,
            json=metadata[0].name if whole else None,
            dynamic=self.dynamic,
            structure=frozenset(structure),
        )


def _own_problems(fields: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """What keeps a collection from being laid out like ours."""
    problems = [
        f"the field {name!r} is {_type(fields[name]) if name in fields else 'missing'}, expected {kind}"
        for name, kind in _OWN_TYPES.items()
        if name not in fields or _type(fields[name]) != kind
    ]
    if not fields.get(ID, {}).get("is_primary"):
        problems.append(f"{ID!r} is not the primary key")
    if not description.get("enable_dynamic_field"):
        problems.append("it has no dynamic field")
    return problems


def _column(field: Mapping[str, Any]) -> Column:
    element = _KINDS.get(type_name(field.get("element_type")), "other")
    return Column(field["name"], _KINDS.get(_type(field), "other"), bool(field.get("nullable")), element)


def _type(field: Mapping[str, Any]) -> str:
    return type_name(field["type"])


def type_name(value: Any) -> str:
    """Name of a `pymilvus.DataType`, or of a number that this version of pymilvus does not know."""
    return str(getattr(value, "name", value))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names)) or "nothing"
