"""What a collection's vectors were made with: kept in the properties of the collection, compared on every opening.

Vectors of two models can have the same length and still mean nothing to each other, which no database can notice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Final, Literal

import numpy as np

from qwen3_rag.errors import CollectionError
from qwen3_rag.models import EMBEDDING_MODELS
from qwen3_rag.types import Embedder, FloatArray
from qwen3_rag.version import package_version

PROPERTY: Final = "qwen3_rag.contract"
"""Key among the collection's properties; the value is JSON."""

_UNIT: Final = 1e-2
"""How far the length of a normalised vector may lie from 1, in half precision too."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What wrote a collection.

    Attributes:
        model: Name of the embedding model.
        revision: Its revision, if one was asked for.
        dimensions: Length of the vectors.
        instruction: Under which instruction the writer embeds queries; another one is no other model.
        normalized: Whether the first vectors had unit length.
        version: Version of this package that created the collection.
        sparse: What its sparse leg holds; `None` if the contract is older than that question.
    """

    model: str
    revision: str | None
    dimensions: int
    instruction: str
    normalized: bool
    version: str
    sparse: Literal["bm25", "model", "none"] | None = None

    @classmethod
    def of(
        cls,
        embedder: Embedder,
        vectors: FloatArray,
        instruction: str | None = None,
        sparse: Literal["bm25", "model", "none"] | None = None,
    ) -> Contract:
        """Describes a writer.

        Args:
            embedder: What made the vectors.
            vectors: The first of them; shape `(n, dimensions)`.
            instruction: The query instruction if it is not the embedder's own.
            sparse: What the sparse leg holds.
        """
        model, revision = _name(embedder.model_id)
        return cls(
            model,
            revision,
            int(vectors.shape[1]),
            embedder.instruction if instruction is None else instruction,
            is_normalized(vectors),
            package_version(),
            sparse,
        )

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> Contract | None:
        """Reads what `MilvusClient.describe_collection` says; `None` if another tool created the collection.

        Raises:
            CollectionError: If there is a contract that can't be read.
        """
        text = (description.get("properties") or {}).get(PROPERTY)
        if text is None:
            return None
        try:
            values = json.loads(text)
            return cls(**{f.name: values[f.name] for f in fields(cls) if f.default is MISSING or f.name in values})
        except (KeyError, TypeError, ValueError) as error:
            raise CollectionError(
                f"the contract of collection {description['collection_name']!r} can't be read ({error!r}): {text!r}. Use "
                f"the version of qwen3-rag that wrote it, or take the property {PROPERTY!r} off the collection"
            ) from error

    def properties(self) -> dict[str, str]:
        """The properties of a new collection."""
        return {PROPERTY: json.dumps(asdict(self), ensure_ascii=False)}

    def check(self, name: str, embedder: Embedder) -> None:
        """Compares the model; the vectors' length shows in the vectors.

        Args:
            name: Name of the collection.
            embedder: What is to read or write it.

        Raises:
            CollectionError: If it is another model, or surely another revision.
        """
        model, revision = _name(embedder.model_id)
        same = _canonical(model) == _canonical(self.model)
        if same and (revision == self.revision or None in (revision, self.revision)):
            return
        raise CollectionError(
            f"collection {name!r} was written with {_full(self.model, self.revision)!r} ({self.dimensions} dimensions), "
            f"not with {_full(model, revision)!r}, whose vectors mean something else: use the model that wrote it, or "
            "another collection, or drop this one and ingest again. If both names stand for the same weights, open it "
            "with check_model=False"
        )


def is_normalized(vectors: FloatArray) -> bool:
    """Whether all vectors have unit length."""
    return bool(np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _UNIT))


def _name(model_id: str) -> tuple[str, str | None]:
    """Splits `name@revision|change|…`, which is how an embedder's `model_id` is made, and leaves out the changes.

    They don't make another model: whether vectors are normalised shows in them, and vectors under another limit on the
    length of texts still compare.
    """
    name, at, revision = model_id.partition("|")[0].rpartition("@")
    return (name, revision) if at else (revision, None)


def _full(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model}@{revision}"


def _canonical(model: str) -> str:
    """One name for a published model, wherever it runs: on the hub, in a folder of its name, or on a server."""
    last = re.split(r"[/\\]", model)[-1].lower()
    spellings = {last[start:].replace(":", "-") for start in (0, *(m.end() for m in re.finditer(":", last)))}
    for known in EMBEDDING_MODELS:
        if known.rpartition("/")[2].lower() in spellings:
            return known
    return model
