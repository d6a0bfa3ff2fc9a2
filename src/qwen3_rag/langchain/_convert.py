"""Between LangChain's documents and the core's passages: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.retrieval import check_k, content_id, copied_metadata
from qwen3_rag.types import FloatArray, Hit, Passage

_ROUNDING = 1e-3
"""How far a cosine computed in single precision may lie outside [-1, 1]."""


def to_passages(
    texts: Iterable[str], metadatas: Iterable[Mapping[str, Any]] | None, ids: Iterable[str | None] | None
) -> tuple[list[str], list[Passage]]:
    """Pairs texts, metadata and ids.

    Returns:
        The id of each text, and the distinct passages: what is given twice is stored once.

    Raises:
        InputError: If the numbers differ, metadata are no mapping, or two passages that differ have the same id.
    """
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of strings, got the string {texts!r:.80}: put it into a list")
    texts = list(texts)
    metadatas = [{}] * len(texts) if metadatas is None else list(metadatas)
    ids = [None] * len(texts) if ids is None else list(ids)
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if len(values) != len(texts):
            raise InputError(f"{name} must be as many as texts: got {len(values)} for {len(texts)}")
    distinct: dict[str, Passage] = {}
    chosen = []
    for text, metadata, given in zip(texts, metadatas, ids, strict=True):
        passage = Passage(content_id(text, metadata) if given is None else given, text, copied_metadata(metadata))
        if distinct.setdefault(passage.id, passage) != passage:
            raise InputError(f"two passages that differ have the id {passage.id!r}: give each its own")
        chosen.append(passage.id)
    return chosen, list(distinct.values())


def batches(passages: Sequence[Passage], size: int | None) -> Iterator[Sequence[Passage]]:
    """Cuts passages into runs of at most `size`; `None` is all in one, and no passages are no runs.

    Raises:
        ConfigurationError: If the size is not a positive integer.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ConfigurationError(f"batch_size must be a positive integer or None for all at once, got {size!r}")
    step = size or len(passages) or 1
    return (passages[start : start + step] for start in range(0, len(passages), step))


def to_document(passage: Passage) -> Document:
    """Returns a passage as a document; its metadata are the caller's own to change."""
    return Document(id=passage.id, page_content=passage.text, metadata=dict(passage.metadata))


def scored(hits: Sequence[Hit]) -> list[tuple[Document, float]]:
    """Returns hits as LangChain's pairs of document and similarity."""
    return [(to_document(hit.passage), hit.score) for hit in hits]


def diverse(
    query: Sequence[float], hits: Sequence[Hit], vectors: FloatArray, k: int, lambda_mult: float
) -> list[Document]:
    """Picks `k` hits by maximal marginal relevance.

    Raises:
        ConfigurationError: If `k` is not positive or `lambda_mult` not in [0, 1].
    """
    check_k(k)
    if not 0 <= lambda_mult <= 1:
        raise ConfigurationError(f"lambda_mult must be in [0, 1], got {lambda_mult!r}")
    chosen = maximal_marginal_relevance(np.asarray(query, np.float32), list(vectors), lambda_mult, k)
    return [to_document(hits[index].passage) for index in chosen]


def relevance(similarity: float) -> float:
    """Maps the similarity of unit vectors from [-1, 1] to LangChain's [0, 1].

    Raises:
        ConfigurationError: If it is no such similarity: those of longer vectors have no end, by inner product or L2.
    """
    if abs(similarity) > 1 + _ROUNDING:
        raise ConfigurationError(
            f"a similarity of {similarity:.4g} has no relevance between 0 and 1: use metric='COSINE' or vectors of "
            "unit length, or take the raw scores from similarity_search_with_score"
        )
    return min(1.0, max(0.0, (1 + similarity) / 2))


def refuse(unknown: Mapping[str, Any]) -> None:
    """Raises for arguments that nothing would act on.

    Raises:
        ConfigurationError: If there are any.
    """
    if unknown:
        raise ConfigurationError(f"unknown argument {', '.join(map(repr, unknown))}: MilvusStore ignores nothing")
