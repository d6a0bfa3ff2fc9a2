"""The first stage of a retriever: candidates from any LangChain vector store or retriever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._search import MilvusSearch
from qwen3_rag.langchain.embeddings import Qwen3Embeddings
from qwen3_rag.retrieval import DEFAULT_K, RETRIEVAL_SCORE, check_k

Source: TypeAlias = VectorStore | RetrieverLike


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
        options: Further keyword arguments for the source, such as `filter`.

    Raises:
        ConfigurationError: If `k` is not positive, or the source would ignore an option in silence.
    """
    if k is not None:
        check_k(k)
    if not isinstance(source, VectorStore):
        return _FromRetriever(source, k, _retriever_options(source, k, options))
    arguments = {**options, "k": k or DEFAULT_K}
    if instruction is not None and isinstance(source.embeddings, Qwen3Embeddings):
        if not isinstance(source, MilvusSearch):
            return _ByVector(source, source.embeddings, instruction, arguments)
        arguments["instruction"] = instruction
    scored = type(source).similarity_search_with_score is not VectorStore.similarity_search_with_score
    return _ByText(source, "similarity_search_with_score" if scored else "similarity_search", arguments)


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


def _retriever_options(source: RetrieverLike, k: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    inner: Any = source
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if isinstance(inner, VectorStoreRetriever) and k is not None:
        return {**options, "k": k}
    # LangChain drops the arguments of a retriever whose method takes none, and has no public way to ask.
    if options and isinstance(inner, BaseRetriever) and not inner._expects_other_args:  # noqa: SLF001
        raise ConfigurationError(
            f"{type(inner).__name__} takes no arguments, so {', '.join(map(repr, options))} would be ignored"
        )
    return dict(options)


def _annotated(found: Iterable[Document | tuple[Document, float]]) -> list[Document]:
    return [item if isinstance(item, Document) else _with_score(*item) for item in found]


def _with_score(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, RETRIEVAL_SCORE: float(score)}})
