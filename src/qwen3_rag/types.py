"""The data types and Protocols that the rest of the package speaks. No framework, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

SparseOutput: TypeAlias = Literal["sparse", "dense&sparse"]
"""What a request for sparse vectors returns: them alone, or the dense ones too."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """One text that was longer than the limit.

    Attributes:
        index: Position of the text in the input of the call.
        part: What was cut: `"document"` or `"query"`.
        tokens: Its length in tokens before the cut.
        kept: How many of them the model saw.
    """

    index: int
    part: str
    tokens: int
    kept: int

    @property
    def lost(self) -> int:
        """Number of tokens that the model did not see."""
        return self.tokens - self.kept


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors in the order of the input, with what it took.

    Attributes:
        vectors: Shape `(n_texts, dimensions)`, float32, unit length unless normalisation was switched off.
        tokens: Tokens processed by the model; equal texts count once.
        truncated: The texts that lost tokens, in input order.
    """

    vectors: FloatArray
    tokens: int = 0
    truncated: tuple[Truncation, ...] = ()


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of vocabulary entries: what a learned sparse embedding gives, for hybrid search.

    Attributes:
        indices: Shape `(n,)`, the entries, ascending.
        values: Shape `(n,)`, float32, their weights.
        tokens: The entries as text where the server names them, else empty.
    """

    indices: npt.NDArray[np.int64]
    values: FloatArray
    tokens: tuple[str, ...] = ()

    def as_dict(self) -> dict[int, float]:
        """Returns index and weight of each entry, the form in which Milvus takes a sparse vector."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class HybridEmbeddingResult:
    """Sparse vectors in the order of the input, with the dense ones where they were asked for.

    Attributes:
        vectors: Shape `(n_texts, dimensions)`, or `None` if only sparse vectors were asked for.
        sparse: One for each text.
        tokens: Tokens that the model processed.
        truncated: The texts that lost tokens.
    """

    vectors: FloatArray | None
    sparse: tuple[SparseVector, ...]
    tokens: int = 0
    truncated: tuple[Truncation, ...] = ()


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Scores in the order of the input documents, not sorted.

    Attributes:
        scores: Shape `(n_documents,)`, float32: P(yes), between 0 and 1.
        logits: Shape `(n_documents,)`, float32: `logit(yes) - logit(no)`, of which `scores` is the sigmoid.
        tokens: Tokens processed by the model; a shared prefix and equal documents count once.
        truncated: The documents and the query that lost tokens.
    """

    scores: FloatArray
    logits: FloatArray
    tokens: int = 0
    truncated: tuple[Truncation, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text as it lies in a collection.

    Attributes:
        id: Stable identifier; an upsert with the same id replaces the passage.
        text: The text that is embedded and reranked.
        metadata: Whatever the caller wants back; never mutated.
        doc_id: Identifier of the document that the passage was cut from, if any.
        node: What a LlamaIndex node holds beyond these: its class, relationships, excluded keys. Stored where
            LlamaIndex's own readers look for it, and no concern of anybody else's.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    doc_id: str | None = None
    node: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found.

    Attributes:
        passage: The passage.
        score: Similarity, larger is nearer: cosine or inner product as the collection has it.
    """

    passage: Passage
    score: float


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors. Query or document is a choice of method, never a flag.

    Every method keeps order and length, raises instead of returning part, and is safe to call from many threads.
    The `a…` twins never block the event loop and return the same values.
    """

    @property
    def model_id(self) -> str:
        """Identity of the model and all that changes its vectors but role, instruction and dimension."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of the vectors when a call names no other; may load the model's configuration."""
        ...

    @property
    def instruction(self) -> str:
        """The query instruction when a call names no other."""
        ...

    def embed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Embeds passages: no instruction, no prefix."""
        ...

    def embed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Embeds questions, each under the instruction."""
        ...

    async def aembed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Async twin of `embed_documents`."""
        ...

    async def aembed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Async twin of `embed_queries`."""
        ...


@runtime_checkable
class SparseEmbedder(Embedder, Protocol):
    """An embedder that can make sparse vectors too, in the same call as the dense ones. Same promises."""

    @property
    def has_sparse(self) -> bool:
        """Whether this model does; without it, the methods below raise `ConfigurationError`."""
        ...

    def hybrid_documents(
        self, texts: Sequence[str], *, dimensions: int | None = None, output: SparseOutput = "dense&sparse"
    ) -> HybridEmbeddingResult:
        """Embeds passages to sparse vectors, and to dense ones if `output` says so."""
        ...

    def hybrid_queries(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: SparseOutput = "dense&sparse",
    ) -> HybridEmbeddingResult:
        """Embeds questions, each under the instruction, as `hybrid_documents` embeds passages."""
        ...

    async def ahybrid_documents(
        self, texts: Sequence[str], *, dimensions: int | None = None, output: SparseOutput = "dense&sparse"
    ) -> HybridEmbeddingResult:
        """Async twin of `hybrid_documents`."""
        ...

    async def ahybrid_queries(
        self,
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        output: SparseOutput = "dense&sparse",
    ) -> HybridEmbeddingResult:
        """Async twin of `hybrid_queries`."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Scores how well documents answer a query. Same promises as `Embedder`."""

    @property
    def model_id(self) -> str:
        """Identity of the model and all that changes its scores but the instruction."""
        ...

    @property
    def instruction(self) -> str:
        """The instruction when a call names no other."""
        ...

    def rerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Scores every document against one query; the order of the input is kept."""
        ...

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Scores (query, document) pairs; pairs that share a query share its computation."""
        ...

    async def arerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `rerank`."""
        ...

    async def ascore_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `score_pairs`."""
        ...
