"""The first stage of a retriever: candidates from any LlamaIndex retriever or index, or from several."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.base import BaseIndex
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.vector_stores import MilvusStore
from qwen3_rag.retrieval import (
    DEFAULT_K,
    RETRIEVAL_COLLECTION,
    Mode,
    asearch_all,
    check_k,
    check_mode,
    interleave,
    search_all,
)

Source: TypeAlias = BaseRetriever | BaseIndex[Any]

_QUERY_MODES: Final[Mapping[str, VectorStoreQueryMode]] = {
    "dense": VectorStoreQueryMode.DEFAULT,
    "sparse": VectorStoreQueryMode.SPARSE,
    "hybrid": VectorStoreQueryMode.HYBRID,
}


class FirstStage(Protocol):
    """Fetches candidates, in the source's order."""

    def fetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        """Returns the candidates for a question."""
        ...

    async def afetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        """Async twin of `fetch`."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What reaches the first stage of a vector index; a retriever is asked as it was made.

    Attributes:
        k: How many candidates; `None` is `DEFAULT_K` from a vector index and all that comes from other sources.
        mode: `"dense"`, `"sparse"` or `"hybrid"`; `None` is dense.
        alpha: Weight of the vectors in a hybrid search; `None` leaves it to the store.
        filters: Metadata filters.
        instruction: Query instruction, for a vector index over a `Qwen3Embedding`.
    """

    k: int | None = None
    mode: Mode | None = None
    alpha: float | None = None
    filters: MetadataFilters | None = None
    instruction: str | None = None

    def check(self, source: Any) -> None:
        """Refuses what can't work, or what the source would ignore.

        Raises:
            ConfigurationError: If there is such an option, or the source is none.
        """
        if not isinstance(source, BaseRetriever | BaseIndex):
            raise ConfigurationError(
                f"source must be a LlamaIndex retriever or index, got {type(source).__name__}: "
                "for a vector store use Qwen3Retriever.from_store(store, embed_model)"
            )
        if self.k is not None:
            check_k(self.k)
        if self.mode is not None:
            check_mode(self.mode)
        if self.alpha is not None and self.mode != "hybrid":
            raise ConfigurationError(
                f"alpha={self.alpha!r} would be ignored with mode={self.mode!r}: use mode='hybrid'"
            )
        if isinstance(source, VectorStoreIndex):
            return
        for name in ("filters", "mode", "alpha"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"{name} can't reach the first stage of a {type(source).__name__}: "
                    "set them where it is made, or give a VectorStoreIndex"
                )


def first_stage(source: Source, options: Options) -> FirstStage:
    """Decides how a source is asked."""
    return _One(source, options)


def first_stage_of_many(sources: Mapping[str, Source], options: Options) -> FirstStage:
    """Asks several sources at once; every candidate says in its metadata which one it came from."""
    return _Many({name: _One(source, options) for name, source in sources.items()})


@dataclass(frozen=True, slots=True)
class _One:
    """Asks one source."""

    source: Source
    options: Options

    def fetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        self.verify()
        return self._retriever().retrieve(_private(bundle))[: self.options.k]

    async def afetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        await asyncio.to_thread(self.verify)
        found = await self._retriever().aretrieve(_private(bundle))
        return found[: self.options.k]

    def own_model(self) -> BaseEmbedding | None:
        """What embeds the question as it was made; `None` if nothing does, or the source keeps it to itself."""
        if not isinstance(self.source, VectorStoreIndex) or self.options.mode == "sparse":
            return None
        # LlamaIndex has no public way to ask an index for its model.
        return getattr(self.source, "_embed_model", None)

    def query_model(self) -> BaseEmbedding | None:
        """What embeds the question under the instruction."""
        model, instruction = self.own_model(), self.options.instruction
        return model.with_instruction(instruction) if instruction and isinstance(model, Qwen3Embedding) else model

    def verify(self) -> None:
        """Compares the model with the contract of the collection, for an index that was made by hand."""
        store = self.source.vector_store if isinstance(self.source, VectorStoreIndex) else None
        model = self.own_model()
        if isinstance(store, MilvusStore) and model is not None:
            store.with_model(model).verify()

    def _retriever(self) -> BaseRetriever:
        if isinstance(self.source, BaseRetriever):
            return self.source
        if not isinstance(self.source, VectorStoreIndex):
            return self.source.as_retriever()
        return self.source.as_retriever(
            similarity_top_k=self.options.k or DEFAULT_K,
            vector_store_query_mode=_QUERY_MODES[self.options.mode or "dense"],
            alpha=self.options.alpha,
            filters=self.options.filters,
            embed_model=self.query_model(),
        )


@dataclass(frozen=True, slots=True)
class _Many:
    """Asks all sources at once. Indexes over the same model get one vector."""

    stages: Mapping[str, _One]

    def fetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        texts = bundle.embedding_strs
        vectors = {key: model.get_agg_embedding_from_queries(texts) for key, model in self._models(bundle).items()}
        given = self._given(bundle, vectors)
        return _labelled(search_all({name: partial(s.fetch, given[name]) for name, s in self.stages.items()}))

    async def afetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        texts = bundle.embedding_strs
        vectors = {
            key: await model.aget_agg_embedding_from_queries(texts) for key, model in self._models(bundle).items()
        }
        given = self._given(bundle, vectors)
        return _labelled(await asearch_all({name: partial(s.afetch, given[name]) for name, s in self.stages.items()}))

    def _models(self, bundle: QueryBundle) -> dict[int, BaseEmbedding]:
        """The models to embed the question with, unless it has a vector already or there is nothing to embed."""
        if bundle.embedding is not None or not bundle.embedding_strs:
            return {}
        stages = self.stages.values()
        return {id(stage.own_model()): model for stage in stages if (model := stage.query_model()) is not None}

    def _given(self, bundle: QueryBundle, vectors: Mapping[int, list[float]]) -> dict[str, QueryBundle]:
        """The question for each source, with its vector."""
        return {
            name: dataclasses.replace(bundle, embedding=vectors.get(id(stage.own_model()), bundle.embedding))
            for name, stage in self.stages.items()
        }


def _private(bundle: QueryBundle) -> QueryBundle:
    # LlamaIndex's vector retriever writes the vector into the caller's bundle, where it would answer for the next
    # instruction or model too.
    return dataclasses.replace(bundle)


def _labelled(found: Mapping[str, Sequence[NodeWithScore]]) -> list[NodeWithScore]:
    pairs = interleave(found, lambda node: (node.node_id, node.node.get_content()))
    return [_label(node, name) for name, node in pairs]


def _label(scored: NodeWithScore, name: str) -> NodeWithScore:
    """A copy that names its source, in metadata that no model gets to read."""
    node = scored.node
    added = {
        "metadata": {**node.metadata, RETRIEVAL_COLLECTION: name},
        "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, RETRIEVAL_COLLECTION],
        "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, RETRIEVAL_COLLECTION],
    }
    return scored.model_copy(update={"node": node.model_copy(update=added)})
