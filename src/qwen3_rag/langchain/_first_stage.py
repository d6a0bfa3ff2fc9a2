"""The first stage of a retriever: candidates from any LangChain vector store or retriever, or from several."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.retrievers import RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._chain_parts import check_taken, unwrapped
from qwen3_rag.langchain._convert import to_document
from qwen3_rag.langchain._official_store import is_official_milvus, official_arguments
from qwen3_rag.langchain._search import MilvusSearch
from qwen3_rag.langchain._tracing import EmbedQuery, Search, atraced, marked, traced
from qwen3_rag.langchain.embeddings import Qwen3Embeddings
from qwen3_rag.milvus import EmbeddedQuery
from qwen3_rag.retrieval import (
    DEFAULT_K,
    RETRIEVAL_COLLECTION,
    RETRIEVAL_SCORE,
    Mode,
    asearch_all,
    check_k,
    check_mode,
    interleave,
    leg_annotations,
    search_all,
)
from qwen3_rag.types import Hit

Source: TypeAlias = VectorStore | RetrieverLike
EmbeddingKey: TypeAlias = tuple[int, str | None, Mode]
Found: TypeAlias = Document | tuple[Document, float]


class FirstStage(Protocol):
    """Fetches candidates, in the source's order; its own documents are never changed."""

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        """Returns the candidates for a question."""
        ...

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        """Async twin of `fetch`."""
        ...


def first_stage(source: Source, *, k: int | None, instruction: str | None, options: Mapping[str, Any]) -> FirstStage:
    """Decides how a source is asked, before anything is sent.

    Args:
        source: A vector store, or anything that LangChain takes for a retriever.
        k: How many candidates at most; `None` is `DEFAULT_K` from a store and all that a retriever returns.
        instruction: Query instruction, for a store whose embeddings are `Qwen3Embeddings`.
        options: Further keyword arguments for the source, such as `filter`, and `mode` for a `MilvusStore`.

    Raises:
        ConfigurationError: If `k` is not positive, or the source would ignore an option in silence.
    """
    if k is not None:
        check_k(k)
    if "mode" in options:
        check_mode(options["mode"])
    if not isinstance(source, VectorStore):
        return _FromRetriever(source, k, _retriever_options(source, k, options))
    arguments = {**options, "k": k or DEFAULT_K}
    if isinstance(source, MilvusSearch):
        # Where the store's embeddings take no instruction, it is the reranker's alone.
        return _FromMilvus(source, instruction if isinstance(source.embeddings, Qwen3Embeddings) else None, arguments)
    _refuse_mode(source, options)
    if is_official_milvus(source):
        arguments = official_arguments(source, instruction, arguments)
    if instruction is not None and isinstance(source.embeddings, Qwen3Embeddings):
        return _ByVector(source, source.embeddings, instruction, arguments)
    scored = type(source).similarity_search_with_score is not VectorStore.similarity_search_with_score
    return _ByText(source, "similarity_search_with_score" if scored else "similarity_search", arguments)


def first_stage_of_many(stages: Mapping[str, FirstStage]) -> FirstStage:
    """Asks several sources at once; every candidate says in its metadata which one it came from.

    Args:
        stages: By the name of the source.
    """
    return _FromMany(stages)


def tracing_params(source: Source | Mapping[str, Source]) -> dict[str, str]:
    """What LangSmith is told of a source: which store, and which embedding model; of several, the first's."""
    store: Any = next(iter(source.values()), None) if isinstance(source, Mapping) else source
    store = store.vectorstore if isinstance(store, VectorStoreRetriever) else store
    if not isinstance(store, VectorStore):
        return {}
    params = {"ls_vector_store_provider": type(store).__name__}
    if store.embeddings is not None:
        params["ls_embedding_provider"] = type(store.embeddings).__name__
    if isinstance(store.embeddings, Qwen3Embeddings):
        params["ls_embedding_model"] = store.embeddings.model_name
    return params


@dataclass(frozen=True, slots=True)
class _FromMilvus:
    """Asks a `MilvusStore`; the ranks and scores of a hybrid search's legs go into the metadata too.

    Attributes:
        store: The store.
        instruction: Query instruction for the embedding; where nothing is embedded, it is the reranker's alone.
        arguments: Further ones of `MilvusSearch.hits`.
        embedded: The question, if it was embedded for several stores at once.
    """

    store: MilvusSearch
    instruction: str | None
    arguments: Mapping[str, Any]
    embedded: EmbeddedQuery | None = None

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        asked = {**self.arguments, "instruction": self._under(), "embedded": self.embedded}
        found = self.store.hits(query, callbacks=callbacks, **asked)
        return [_from_hit(hit) for hit in found]

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        asked = {**self.arguments, "instruction": await asyncio.to_thread(self._under), "embedded": self.embedded}
        found = await self.store.ahits(query, callbacks=callbacks, **asked)
        return [_from_hit(hit) for hit in found]

    def embed(self, query: str, callbacks: Callbacks) -> EmbeddedQuery:
        return self.store.embed_question(query, mode=self.mode, instruction=self.instruction, callbacks=callbacks)

    async def aembed(self, query: str, callbacks: Callbacks) -> EmbeddedQuery:
        return await self.store.aembed_question(
            query, mode=self.mode, instruction=self.instruction, callbacks=callbacks
        )

    @property
    def mode(self) -> Mode:
        mode: Mode = self.arguments.get("mode", "dense")
        return mode

    @property
    def embedding_key(self) -> EmbeddingKey:
        """Stages with the same key search with the same question."""
        return id(self.store.embeddings), self.instruction, self.mode

    def _under(self) -> str | None:
        """The instruction, if anything is yet to be embedded."""
        acts = (
            self.instruction is not None
            and self.embedded is None
            and (self.mode != "sparse" or self.store.takes_sparse())
        )
        return self.instruction if acts else None


@dataclass(frozen=True, slots=True)
class _ByText:
    """Asks a vector store with the text; its scores go into the metadata of copies."""

    store: VectorStore
    method: str
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        search = partial(getattr(self.store, self.method), query, **self.arguments)
        return _annotated(traced(_told(self.store, query, self.arguments), callbacks, search))

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        search = partial(getattr(self.store, f"a{self.method}"), query, **self.arguments)
        return _annotated(await atraced(_told(self.store, query, self.arguments), callbacks, search))


@dataclass(frozen=True, slots=True)
class _ByVector:
    """Embeds the question under an instruction that the store could not pass on; by vector, LangChain has no scores."""

    store: VectorStore
    embeddings: Qwen3Embeddings
    instruction: str
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        embed = partial(self.embeddings.embed_query, query, instruction=self.instruction)
        vector = traced(EmbedQuery(self.embeddings, query, self.instruction), callbacks, embed)
        search = partial(self.store.similarity_search_by_vector, vector, **self.arguments)
        return traced(_told(self.store, query, self.arguments), callbacks, search)

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        embed = partial(self.embeddings.aembed_query, query, instruction=self.instruction)
        vector = await atraced(EmbedQuery(self.embeddings, query, self.instruction), callbacks, embed)
        search = partial(self.store.asimilarity_search_by_vector, vector, **self.arguments)
        return await atraced(_told(self.store, query, self.arguments), callbacks, search)


@dataclass(frozen=True, slots=True)
class _FromRetriever:
    """Asks a retriever, as a child run, and takes its best `k`."""

    retriever: RetrieverLike
    k: int | None
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        return self.retriever.invoke(query, RunnableConfig(callbacks=callbacks), **self.arguments)[: self.k]

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        found = await self.retriever.ainvoke(query, RunnableConfig(callbacks=callbacks), **self.arguments)
        return found[: self.k]


@dataclass(frozen=True, slots=True)
class _FromMany:
    """Asks all sources at once. Stores with the same embeddings get a question that is embedded once."""

    stages: Mapping[str, FirstStage]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        askers = {key: _asker(group) for key, group in self._groups().items()}
        stages = self._given({key: asker.embed(query, callbacks) for key, asker in askers.items()})
        return _labelled(
            search_all({name: partial(s.fetch, query, _of(name, callbacks)) for name, s in stages.items()})
        )

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        askers = {key: await asyncio.to_thread(_asker, group) for key, group in self._groups().items()}
        stages = self._given({key: await asker.aembed(query, callbacks) for key, asker in askers.items()})
        searches = {name: partial(s.afetch, query, _of(name, callbacks)) for name, s in stages.items()}
        return _labelled(await asearch_all(searches))

    def _groups(self) -> dict[EmbeddingKey, list[_FromMilvus]]:
        """The stages that search with the same question."""
        groups: dict[EmbeddingKey, list[_FromMilvus]] = {}
        for stage in self.stages.values():
            if isinstance(stage, _FromMilvus):
                groups.setdefault(stage.embedding_key, []).append(stage)
        return groups

    def _given(self, questions: Mapping[EmbeddingKey, EmbeddedQuery]) -> dict[str, FirstStage]:
        """The stages, with their questions."""
        return {
            name: replace(stage, embedded=questions[stage.embedding_key]) if isinstance(stage, _FromMilvus) else stage
            for name, stage in self.stages.items()
        }


def _asker(group: Sequence[_FromMilvus]) -> _FromMilvus:
    """The stage that embeds for all: one that needs a sparse vector too, if there is such."""
    sparse = (stage for stage in group if stage.mode != "dense" and stage.store.takes_sparse())
    return next(sparse, group[0])


def _retriever_options(source: RetrieverLike, k: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    inner, _ = unwrapped(source)
    if isinstance(inner, VectorStoreRetriever):
        if not isinstance(inner.vectorstore, MilvusSearch):
            _refuse_mode(inner.vectorstore, options)
        return dict(options) if k is None else {**options, "k": k}
    check_taken(inner, options)
    return dict(options)


def _refuse_mode(store: VectorStore, options: Mapping[str, Any]) -> None:
    if options.get("mode", "dense") != "dense":
        raise ConfigurationError(
            f"mode={options['mode']!r} does not reach a {type(store).__name__}: use a MilvusStore, or a store that is set "
            "up for such a search itself"
        )


def _told(store: VectorStore, query: str, arguments: Mapping[str, Any]) -> Search[Iterable[Found]]:
    """What callbacks are told of a search in a store that is not ours."""
    return Search(query, _annotated, {"store": type(store).__name__, "k": arguments["k"]})


def _of(name: str, callbacks: Callbacks) -> Callbacks:
    """Callbacks that are told which one of several sources is searched."""
    return marked(callbacks, {RETRIEVAL_COLLECTION: name})


def _annotated(found: Iterable[Found]) -> list[Document]:
    return [item if isinstance(item, Document) else _with(item[0], {RETRIEVAL_SCORE: float(item[1])}) for item in found]


def _from_hit(hit: Hit) -> Document:
    return _with(to_document(hit.passage), {RETRIEVAL_SCORE: hit.score, **leg_annotations(hit)})


def _labelled(found: Mapping[str, Iterable[Document]]) -> list[Document]:
    pairs = interleave({name: list(items) for name, items in found.items()}, lambda d: (d.id, d.page_content))
    return [_with(document, {RETRIEVAL_COLLECTION: name}) for name, document in pairs]


def _with(document: Document, added: Mapping[str, Any]) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, **added}})
