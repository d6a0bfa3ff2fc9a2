"""What the commands do, without a word on how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qwen3_rag.backends import load_embedder, load_reranker
from qwen3_rag.errors import CollectionError, InputError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.models import DEFAULT_RERANKER_MODEL
from qwen3_rag.retrieval import Ranked, check_k, check_mode, check_selection, rerank_items
from qwen3_rag.types import Embedder, Hit, Reranker

if TYPE_CHECKING:
    from qwen3_rag.langchain import Qwen3Retriever
    from qwen3_rag.milvus.schema import Metric

TINY = "tiny"
"""The bundled models."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection lies.

    Attributes:
        uri: A file of Milvus Lite, or a server's address.
        collection: Its name.
        token: Credentials of a server.
        metric: How it compares vectors.
    """

    uri: str
    collection: str
    token: str | None = None
    metric: str = "COSINE"

    @contextmanager
    def open(self) -> Iterator[MilvusCollection]:
        """Opens the collection and closes it again."""
        metric = cast("Metric", self.metric)  # which the collection checks
        with MilvusCollection(self.uri, self.collection, token=self.token, metric=metric) as collection:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How passages are found for a chat model, or for an agent.

    Attributes:
        uri: A file of Milvus Lite, or a server's address.
        collections: The collections that may be searched.
        token: Credentials of a server.
        model: Name of the embedding model.
        reranker: Name of the reranker; `None` is the one that goes with the model.
        k: Candidates of each collection.
        top_n: Passages kept after reranking.
        score_threshold: Lowest P(yes) to keep, if any.
        instruction: What both models are told to look for, instead of their own.
        mode: `dense`, `sparse` or `hybrid`.
        metric: How the collections compare vectors.
    """

    uri: str
    collections: tuple[str, ...]
    token: str | None = None
    model: str
    reranker: str | None = None
    k: int = 10
    top_n: int = 3
    score_threshold: float | None = None
    instruction: str | None = None
    mode: str = "dense"
    metric: str = "COSINE"

    @contextmanager
    def open(self, *, warm: bool = False) -> Iterator[Qwen3Retriever]:
        """Opens the collections, gives what searches them, and closes them again.

        Args:
            warm: Whether the models are loaded now, and not by the first search.

        Raises:
            ConfigurationError: If an option can't work.
            CollectionError: If there is no such collection.
            MissingDependencyError: If LangChain is not installed.
        """
        from qwen3_rag.langchain import MilvusStore, Qwen3Retriever

        first, second = embedder(self.model), reranker(self.reranker, self.model)
        with ExitStack() as stack:
            where: Any = {"uri": self.uri, "token": self.token, "metric": self.metric}
            stores = {name: MilvusStore(first, name, **where) for name in self.collections}
            retriever = Qwen3Retriever(
                stores,
                second,
                k=self.k,
                top_n=self.top_n,
                score_threshold=self.score_threshold,
                instruction=self.instruction,
                mode=check_mode(self.mode),
            )
            for store in stores.values():
                stack.enter_context(store)
                check_exists(store.collection)
            for model in (first, second) if warm else ():
                if load := getattr(model, "warm_up", None):
                    load()
            yield retriever


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
    check_exists(collection)
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


def check_exists(collection: MilvusCollection) -> None:
    """Checks that there is something to search.

    Raises:
        CollectionError: If there is no such collection.
    """
    # Milvus Lite would create the database only to find that it is empty.
    is_new_file = "://" not in collection.uri and not Path(collection.uri).exists()
    if is_new_file or not collection.exists():
        raise CollectionError(f"no collection {collection.name!r} in {collection.uri!r}: run `qwen3-rag ingest` first")
