"""What the commands do, without a word on how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qwen3_rag.backends import load_embedder, load_reranker
from qwen3_rag.errors import CollectionError, InputError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.models import DEFAULT_RERANKER_MODEL
from qwen3_rag.retrieval import Ranked, check_k, check_selection, rerank_items
from qwen3_rag.types import Embedder, Hit, Reranker

TINY = "tiny"
"""The bundled models."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection lies.

    Attributes:
        uri: A file of Milvus Lite, or a server's address.
        collection: Its name.
        token: Credentials of a server.
    """

    uri: str
    collection: str
    token: str | None = None

    @contextmanager
    def open(self) -> Iterator[MilvusCollection]:
        """Opens the collection and closes it again."""
        with MilvusCollection(self.uri, self.collection, token=self.token) as collection:
            yield collection


@dataclass(frozen=True, slots=True)
class Search:
    """A question and how to answer it.

    Attributes:
        question: The question.
        k: Candidates of the dense stage.
        top_n: Passages kept after reranking.
        score_threshold: Lowest P(yes) to keep, if any.
        instruction: What both models are told to look for, instead of their own.
    """

    question: str
    k: int = 10
    top_n: int = 3
    score_threshold: float | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Both stages' answers to one question.

    Attributes:
        search: What was asked.
        dense: The candidates, nearest first.
        reranked: The kept ones, best first.
    """

    search: Search
    dense: list[Hit]
    reranked: list[Ranked[Hit]]


def embedder(model: str) -> Embedder:
    """Returns the embedder of that name; nothing is loaded yet."""
    return load_embedder(model)


def reranker(name: str | None, model: str) -> Reranker:
    """Returns the reranker of that name, or the one that goes with the embedding model; nothing is loaded yet."""
    return load_reranker(name or (TINY if model == TINY else DEFAULT_RERANKER_MODEL))


def find(search: Search, collection: MilvusCollection, embedder: Embedder, reranker: Reranker) -> Found:
    """Asks both stages. No model is loaded before the search is known to make sense.

    Raises:
        ConfigurationError: If one of the search's numbers has no meaning.
        InputError: If there is no question.
        CollectionError: If there is no such collection, or another model wrote it.
        Qwen3RagError: What a model or the store raises.
    """
    check_k(search.k)
    check_selection(search.top_n, search.score_threshold)
    if not search.question.strip():
        raise InputError("the question is empty: give some words to look for")
    if _is_new_file(collection.uri) or not collection.exists():
        raise CollectionError(f"no collection {collection.name!r} in {collection.uri!r}: run `qwen3-rag ingest` first")
    collection.verify(embedder)
    vector = embedder.embed_queries([search.question], instruction=search.instruction).vectors[0]
    dense = collection.search(vector, search.k)
    reranked = rerank_items(
        reranker,
        search.question,
        dense,
        lambda hit: hit.passage.text,
        top_n=search.top_n,
        score_threshold=search.score_threshold,
        instruction=search.instruction,
    )
    return Found(search, dense, reranked)


def _is_new_file(uri: str) -> bool:
    # Milvus Lite would create the database only to find that it is empty.
    return "://" not in uri and not Path(uri).exists()
