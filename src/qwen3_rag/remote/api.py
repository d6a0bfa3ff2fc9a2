"""What every vendor module speaks: one call as this package means it, and one answer as it is used. No sending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from qwen3_rag.types import FloatArray, SparseVector

Role: TypeAlias = Literal["document", "query"]
Output: TypeAlias = Literal["dense", "sparse", "dense&sparse"]
"""As DashScope spells `output_type`."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a server gives for one text.

    Attributes:
        dense: Shape `(width,)`, float32, if it was asked for.
        sparse: The sparse vector, if it was asked for.
    """

    dense: FloatArray | None = None
    sparse: SparseVector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """One request for embeddings.

    Attributes:
        model: The model's name at the server.
        texts: What is embedded, in the form in which the server wants it.
        role: Whether they are queries or documents.
        instruction: The queries' instruction where the server applies it, else `None`.
        width: The width that the server is asked for; `None` leaves it to the server.
        output: Dense, sparse or both.
    """

    model: str
    texts: Sequence[str]
    role: Role = "document"
    instruction: str | None = None
    width: int | None = None
    output: Output = "dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankCall:
    """One request for scores.

    Attributes:
        model: The model's name at the server.
        queries: The question of each document, in the form in which the server wants it; all the same one unless the
            server takes pairs.
        documents: What is judged, likewise.
        instruction: The instruction where the server applies it, else `None`.
    """

    model: str
    queries: Sequence[str]
    documents: Sequence[str]
    instruction: str | None = None

    @property
    def query(self) -> str:
        """The one question."""
        return self.queries[0]


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer, decoded but not yet checked.

    Attributes:
        items: For each row of the answer its index in the request, `None` where the server has none and order counts, and
            its value: numbers, a score, or an object.
        tokens: What the server says it processed; 0 if it does not say.
    """

    items: Sequence[tuple[Any, Any]]
    tokens: int = 0


class EmbeddingApi(Protocol):
    """How one server spells embeddings."""

    @property
    def path(self) -> str:
        """Where on the host."""
        ...

    def body(self, call: EmbeddingCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        ...

    def rows(self, data: Any) -> Rows:
        """Reads an answer. What is missing raises `KeyError`, `TypeError`, `ValueError` or `IndexError`."""
        ...


class RerankApi(Protocol):
    """How one server spells reranking."""

    @property
    def path(self) -> str:
        """Where on the host."""
        ...

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        ...

    def rows(self, data: Any) -> Rows:
        """Reads an answer, as `EmbeddingApi.rows`."""
        ...


def used_tokens(usage: Any) -> int:
    """Reads a usage object of any spelling; 0 where there is none."""
    if not isinstance(usage, Mapping):
        return 0
    for name in ("total_tokens", "prompt_tokens", "input_tokens"):
        if isinstance(value := usage.get(name), int):
            return value
    return 0


@dataclass(frozen=True, slots=True)
class IndexedRows:
    """Reads `{"<rows>": [{"index": 0, "<value>": …}, …], "usage": {…}}`, the form that most servers share.

    Attributes:
        list_name: Name of the list; an empty string is a bare list.
        value_name: Name of the value in a row.
        usage_names: Where the usage is, from outside in.
    """

    list_name: str
    value_name: str
    usage_names: Sequence[str] = field(default=("usage",))

    def __call__(self, data: Any) -> Rows:
        """Reads an answer."""
        rows = data[self.list_name] if self.list_name else data
        usage = data if self.list_name else {}
        for name in self.usage_names:
            usage = usage.get(name) or {} if isinstance(usage, Mapping) else {}
        return Rows([(row["index"], row[self.value_name]) for row in rows], used_tokens(usage))
