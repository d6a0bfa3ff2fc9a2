"""The first stage of a retriever: candidates from any LangChain vector store or retriever, or from several."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._convert import to_document
from qwen3_rag.langchain._search import MilvusSearch
from qwen3_rag.langchain.embeddings import Qwen3Embeddings, Vector
from qwen3_rag.retrieval import (
    DEFAULT_K,
    RETRIEVAL_COLLECTION,
    RETRIEVAL_SCORE,
    asearch_all,
    check_k,
    check_mode,
    interleave,
    leg_annotations,
    search_all,
)
from qwen3_rag.types import Hit

Source: TypeAlias = VectorStore | RetrieverLike
EmbeddingKey: TypeAlias = tuple[int, str | None]

_MIN_FETCH = 50
_FETCH_FACTOR = 4


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
        return _FromMilvus(source, _embedded_under(source, instruction, arguments), arguments)
    _refuse_mode(source, options)
    if _is_official_milvus(source):
        arguments = _official_arguments(source, instruction, arguments)
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
        instruction: Query instruction for the embedding.
        arguments: Further ones of `MilvusSearch.hits`.
    """

    store: MilvusSearch
    instruction: str | None
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002 - a store has no callbacks
        return [_from_hit(hit) for hit in self.store.hits(query, instruction=self.instruction, **self.arguments)]

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002
        found = await self.store.ahits(query, instruction=self.instruction, **self.arguments)
        return [_from_hit(hit) for hit in found]

    @property
    def embedding_key(self) -> EmbeddingKey | None:
        """Stages with the same key search with the same vector; `None` if there is none to search with."""
        if self.arguments.get("mode") == "sparse":
            return None
        return id(self.store.embeddings), self.instruction


@dataclass(frozen=True, slots=True)
class _ByText:
    """Asks a vector store with the text; its scores go into the metadata of copies."""

    store: VectorStore
    method: str
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002 - a store has no callbacks
        return _annotated(getattr(self.store, self.method)(query, **self.arguments))

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002
        return _annotated(await getattr(self.store, f"a{self.method}")(query, **self.arguments))


@dataclass(frozen=True, slots=True)
class _ByVector:
    """Embeds the question under an instruction that the store could not pass on; by vector, LangChain has no scores."""

    store: VectorStore
    embeddings: Qwen3Embeddings
    instruction: str
    arguments: Mapping[str, Any]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002
        vector = self.embeddings.embed_query(query, instruction=self.instruction)
        return self.store.similarity_search_by_vector(vector, **self.arguments)

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:  # noqa: ARG002
        vector = await self.embeddings.aembed_query(query, instruction=self.instruction)
        return await self.store.asimilarity_search_by_vector(vector, **self.arguments)


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
    """Asks all sources at once. Stores with the same embeddings get one vector."""

    stages: Mapping[str, FirstStage]

    def fetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        vectors = {key: s.store.query_vector(query, s.instruction) for key, s in self._embedding().items()}
        stages = self._given(vectors)
        return _labelled(search_all({name: partial(s.fetch, query, callbacks) for name, s in stages.items()}))

    async def afetch(self, query: str, callbacks: Callbacks) -> list[Document]:
        vectors = {key: await s.store.aquery_vector(query, s.instruction) for key, s in self._embedding().items()}
        stages = self._given(vectors)
        return _labelled(await asearch_all({name: partial(s.afetch, query, callbacks) for name, s in stages.items()}))

    def _embedding(self) -> dict[EmbeddingKey, _FromMilvus]:
        """One stage for each vector that is needed."""
        stages = (stage for stage in self.stages.values() if isinstance(stage, _FromMilvus))
        return {stage.embedding_key: stage for stage in stages if stage.embedding_key is not None}

    def _given(self, vectors: Mapping[EmbeddingKey, Vector]) -> dict[str, FirstStage]:
        """The stages, with their vectors."""
        return {
            name: replace(stage, arguments={**stage.arguments, "vector": vectors[stage.embedding_key]})
            if isinstance(stage, _FromMilvus) and stage.embedding_key is not None
            else stage
            for name, stage in self.stages.items()
        }


def _embedded_under(store: MilvusSearch, instruction: str | None, arguments: Mapping[str, Any]) -> str | None:
    """The instruction that reaches the query's embedding; where there is none, it is the reranker's alone."""
    takes = isinstance(store.embeddings, Qwen3Embeddings) and arguments.get("mode") != "sparse"
    return instruction if takes else None


def _retriever_options(source: RetrieverLike, k: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    inner: Any = source
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if isinstance(inner, VectorStoreRetriever):
        if not isinstance(inner.vectorstore, MilvusSearch):
            _refuse_mode(inner.vectorstore, options)
        return dict(options) if k is None else {**options, "k": k}
    # LangChain drops the arguments of a retriever whose method takes none, and has no public way to ask.
    if options and isinstance(inner, BaseRetriever) and not inner._expects_other_args:  # noqa: SLF001
        raise ConfigurationError(
            f"{type(inner).__name__} takes no arguments, so {', '.join(map(repr, options))} would be ignored"
        )
    return dict(options)


def _refuse_mode(store: VectorStore, options: Mapping[str, Any]) -> None:
    if options.get("mode", "dense") != "dense":
        raise ConfigurationError(
            f"mode={options['mode']!r} does not reach a {type(store).__name__}: use a MilvusStore, or a store that is set "
            "up for such a search itself"
        )


def _is_official_milvus(store: VectorStore) -> bool:
    module = sys.modules.get("langchain_milvus")  # a store of that kind can't be there before its module is
    return module is not None and isinstance(store, module.Milvus)


def _official_arguments(store: Any, instruction: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `langchain_milvus.Milvus` needs to be told so that it neither ignores nor forgets anything."""
    if "filter" in arguments:
        raise ConfigurationError(
            "langchain_milvus.Milvus ignores filter in a hybrid search: give it as "
            "expr=qwen3_rag.milvus.compile_filter(…), or use a MilvusStore"
        )
    if len(store.vector_fields) == 1:
        return dict(arguments)
    if instruction is not None and isinstance(store.embeddings, Qwen3Embeddings):
        raise ConfigurationError(
            f"instruction={instruction!r} can't reach the embedding of a hybrid search of langchain_milvus.Milvus: give it "
            "to Qwen3Embeddings and to Qwen3Reranker"
        )
    # By itself it fuses the 4 best of each leg, and by a weighted sum of numbers that don't compare.
    ranker = {} if "reranker" in arguments or "ranker_type" in arguments else {"ranker_type": "rrf"}
    return {"fetch_k": max(_MIN_FETCH, _FETCH_FACTOR * arguments["k"]), **ranker, **arguments}


def _annotated(found: Iterable[Document | tuple[Document, float]]) -> list[Document]:
    return [item if isinstance(item, Document) else _with(item[0], {RETRIEVAL_SCORE: float(item[1])}) for item in found]


def _from_hit(hit: Hit) -> Document:
    return _with(to_document(hit.passage), {RETRIEVAL_SCORE: hit.score, **leg_annotations(hit)})


def _labelled(found: Mapping[str, Iterable[Document]]) -> list[Document]:
    pairs = interleave({name: list(items) for name, items in found.items()}, lambda d: (d.id, d.page_content))
    return [_with(document, {RETRIEVAL_COLLECTION: name}) for name, document in pairs]


def _with(document: Document, added: Mapping[str, Any]) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, **added}})
