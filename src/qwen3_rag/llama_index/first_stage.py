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
from qwen3_rag.llama_index.queries import check_alpha
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
from qwen3_rag.types import SparseVector

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
        if self.alpha is not None:
            check_alpha(self.alpha)
            if self.mode != "hybrid":
                raise ConfigurationError(
                    f"alpha={self.alpha!r} would be ignored with mode={self.mode!r}: use mode='hybrid'"
                )
        if not isinstance(self.filters, MetadataFilters | None):
            raise ConfigurationError(
                f"filters must be LlamaIndex's MetadataFilters, got {self.filters!r:.80}: MetadataFilters.from_dict makes some"
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
    """Asks one source.

    Attributes:
        source: What to ask.
        options: How.
        sparse: The question's sparse vector, if it was made for several sources at once.
    """

    source: Source
    options: Options
    sparse: SparseVector | None = None

    def fetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        self.verify()
        return self._retriever(self.sparse_vector(bundle)).retrieve(_private(bundle))[: self.options.k]

    async def afetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        await asyncio.to_thread(self.verify)
        sparse = await asyncio.to_thread(self.sparse_vector, bundle)
        found = await self._retriever(sparse).aretrieve(_private(bundle))
        return found[: self.options.k]

    def own_model(self) -> BaseEmbedding | None:
        """What embeds the question as it was made; `None` if the source keeps it to itself."""
        # LlamaIndex has no public way to ask an index for its model.
        return getattr(self.source, "_embed_model", None) if isinstance(self.source, VectorStoreIndex) else None

    def query_model(self) -> BaseEmbedding | None:
        """What embeds the question under the instruction."""
        model, instruction = self.own_model(), self.options.instruction
        return model.with_instruction(instruction) if instruction and isinstance(model, Qwen3Embedding) else model

    def takes_sparse(self) -> bool:
        """Whether the question needs a sparse vector; opens the collection to find out."""
        return (
            self.options.mode not in (None, "dense") and (store := self._store()) is not None and store.takes_sparse()
        )

    def sparse_vector(self, bundle: QueryBundle) -> SparseVector | None:
        """The sparse vector of the question, where there is need of one; a request of its own."""
        store, model = self._store(), self.query_model()
        if self.sparse is not None or store is None or model is None or not self.takes_sparse():
            return self.sparse
        return store.with_model(model).sparse_query(bundle.query_str)

    def verify(self) -> None:
        """Compares the model with the contract of the collection, for an index that was made by hand."""
        store, model = self._store(), self.own_model()
        if store is not None and model is not None and (self.options.mode != "sparse" or store.takes_sparse()):
            store.with_model(model).verify()

    def _store(self) -> MilvusStore | None:
        store = self.source.vector_store if isinstance(self.source, VectorStoreIndex) else None
        return store if isinstance(store, MilvusStore) else None

    def _retriever(self, sparse: SparseVector | None) -> BaseRetriever:
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
            vector_store_kwargs={} if sparse is None else {"sparse_vector": sparse},
        )


@dataclass(frozen=True, slots=True)
class _Many:
    """Asks all sources at once. Indexes over the same model get one vector, and one sparse vector."""

    stages: Mapping[str, _One]

    def fetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        texts = bundle.embedding_strs
        vectors = {key: model.get_agg_embedding_from_queries(texts) for key, model in self._models(bundle).items()}
        given, stages = self._given(bundle, vectors), self._with_sparse(bundle)
        return _labelled(search_all({name: partial(s.fetch, given[name]) for name, s in stages.items()}))

    async def afetch(self, bundle: QueryBundle) -> list[NodeWithScore]:
        texts = bundle.embedding_strs
        vectors = {
            key: await model.aget_agg_embedding_from_queries(texts) for key, model in self._models(bundle).items()
        }
        given, stages = self._given(bundle, vectors), await asyncio.to_thread(self._with_sparse, bundle)
        return _labelled(await asearch_all({name: partial(s.afetch, given[name]) for name, s in stages.items()}))

    def _models(self, bundle: QueryBundle) -> dict[int, BaseEmbedding]:
        """The models to embed the question with, unless it has a vector already or there is nothing to embed."""
        if bundle.embedding is not None or not bundle.embedding_strs:
            return {}
        stages = [stage for stage in self.stages.values() if stage.options.mode != "sparse"]
        return {id(stage.own_model()): model for stage in stages if (model := stage.query_model()) is not None}

    def _given(self, bundle: QueryBundle, vectors: Mapping[int, list[float]]) -> dict[str, QueryBundle]:
        """The question for each source, with its vector."""
        return {
            name: dataclasses.replace(bundle, embedding=vectors.get(id(stage.own_model()), bundle.embedding))
            for name, stage in self.stages.items()
        }

    def _with_sparse(self, bundle: QueryBundle) -> dict[str, _One]:
        """The stages, those that need it with the question's sparse vector: one request for each model."""
        vectors: dict[int, SparseVector | None] = {}
        stages = dict(self.stages)
        for name, stage in self.stages.items():
            if stage.takes_sparse():
                key = id(stage.own_model())
                if key not in vectors:
                    stage.verify()
                    vectors[key] = stage.sparse_vector(bundle)
                stages[name] = dataclasses.replace(stage, sparse=vectors[key])
        return stages


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
