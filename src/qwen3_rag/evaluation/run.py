"""Both stages over questions with known answers: by vector, by words, by both, and reranked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from qwen3_rag.errors import CollectionError, ConfigurationError
from qwen3_rag.evaluation.metrics import RetrievalReport, evaluate
from qwen3_rag.evaluation.questions import Question, find_relevant
from qwen3_rag.milvus import MilvusCollection, embed_query
from qwen3_rag.retrieval import DEFAULT_K, rerank_items
from qwen3_rag.types import Embedder, FloatArray, Hit, Reranker

CUTOFFS: Final = (1, 3, 10)
"""Where recall is measured; reciprocal rank and nDCG at the last of them."""

DENSE, HYBRID, RERANKED = "dense", "hybrid", " + rerank"
_SPARSE_NAMES: Final = {"bm25": "BM25", "model": "sparse"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a run over questions has shown.

    Attributes:
        questions: The questions.
        k: Candidates of each search, all of which were reranked.
        reports: The figures, by way of searching.
        ranks: For every question, where its first right passage stood, from 1; `None` if not among the candidates.
    """

    questions: tuple[Question, ...]
    k: int
    reports: Mapping[str, RetrievalReport]
    ranks: Mapping[str, tuple[int | None, ...]]


def evaluate_collection(
    questions: Sequence[Question],
    collection: MilvusCollection,
    embedder: Embedder,
    reranker: Reranker | None,
    *,
    k: int = DEFAULT_K,
    progress: Progress | None = None,
) -> Evaluation:
    """Asks a collection questions whose answers are known, in all ways that it can be searched.

    These are by vector; by words, or by the model's sparse vectors, and by both, where it has such a leg; and the last of
    them reranked.

    Args:
        questions: As `read_questions` gives them.
        collection: Where the answers are.
        embedder: The model that filled it.
        reranker: What reranks; `None` leaves that out.
        k: Candidates of each search; at least the last of `CUTOFFS`.
        progress: Called after every question with the number of those that are done, and of all.

    Returns:
        The figures, side by side.

    Raises:
        ConfigurationError: If `k` is too small, or there is no question.
        CollectionError: If the collection does not exist, or another model filled it.
        InputError: If it lacks what is to answer a question.
    """
    check_candidates(k)
    if not questions:
        raise ConfigurationError("there is no question to evaluate")
    if not collection.exists():
        raise CollectionError(f"no collection {collection.name!r} in {collection.uri!r}: fill it first")
    collection.verify(embedder)
    relevant = find_relevant(questions, collection)
    rows: dict[str, list[list[Hashable]]] = {}
    for done, question in enumerate(questions, start=1):
        for way, hits in _ask(question.text, collection, embedder, reranker, k).items():
            rows.setdefault(way, []).append([hit.passage.id for hit in hits])
        if progress is not None:
            progress(done, len(questions))
    return Evaluation(
        questions=tuple(questions),
        k=k,
        reports={way: evaluate(rankings, relevant, CUTOFFS) for way, rankings in rows.items()},
        ranks={way: tuple(map(_first, rankings, relevant)) for way, rankings in rows.items()},
    )


def check_candidates(k: int) -> None:
    """Checks the number of candidates.

    Raises:
        ConfigurationError: If there are too few to measure.
    """
    if k < CUTOFFS[-1]:
        raise ConfigurationError(f"k is {k}, but recall is measured among the first {CUTOFFS[-1]}: use at least that")


def _ask(
    text: str, collection: MilvusCollection, embedder: Embedder, reranker: Reranker | None, k: int
) -> dict[str, Sequence[Hit]]:
    """The hits of every way to search, the best first."""
    leg = collection.sparse_leg
    query = embed_query(collection, embedder, text)
    vector = cast("FloatArray", query.dense)  # which is what it makes by default
    found: dict[str, Sequence[Hit]] = {DENSE: collection.search(vector, k)}
    if leg is not None:
        alone = collection.search_text(text, k) if query.sparse is None else collection.search_sparse(query.sparse, k)
        found[_SPARSE_NAMES[leg]] = alone
        found[HYBRID] = collection.hybrid_search(vector, query.sparse_query, k)
    if reranker is not None:
        way, candidates = next(reversed(found.items()))
        ranked = rerank_items(reranker, text, candidates, lambda hit: hit.passage.text)
        found[way + RERANKED] = [one.item for one in ranked]
    return found


def _first(ranking: Sequence[Hashable], relevant: set[str]) -> int | None:
    return next((rank for rank, id_ in enumerate(ranking, start=1) if id_ in relevant), None)
