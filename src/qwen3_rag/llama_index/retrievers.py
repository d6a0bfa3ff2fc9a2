"""Over-fetch from any LlamaIndex source, then rerank with Qwen3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import llama_index.core.instrumentation as instrument
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.ingestion import run_transformations
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, NodeWithScore, QueryBundle, TransformComponent
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index._candidates import CandidateRetriever
from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.first_stage import FirstStage, Options, Source, first_stage, first_stage_of_many
from qwen3_rag.llama_index.postprocessors import Qwen3Rerank, RerankOptions
from qwen3_rag.llama_index.texts import chunk_id, text_nodes
from qwen3_rag.llama_index.tools import SearchTool
from qwen3_rag.llama_index.vector_stores import MilvusStore
from qwen3_rag.milvus.collection import CollectionOptions
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL, DEFAULT_RERANKER_MODEL
from qwen3_rag.retrieval import Mode, allowed, check_names

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class RetrieverOptions(RerankOptions, total=False):
    """What `Qwen3Retriever.with_options` can change."""

    k: int | None
    mode: Mode | None
    alpha: float | None
    filters: MetadataFilters | None
    collections: Sequence[str] | None


class Qwen3Retriever(BaseRetriever):
    """Fetches `k` candidates, reranks them with Qwen3-Reranker and returns the best `top_n`.

    Nodes come back as copies with both scores, as `Qwen3Rerank` describes, and from one of several sources with its name
    as `retrieval_collection`. Anything that takes a LlamaIndex retriever takes this one.

    Example:
        ```python
        from llama_index.core.query_engine import RetrieverQueryEngine
        from qwen3_rag.llama_index import Qwen3Retriever

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        nodes = retriever.retrieve("How is data stored in milvus?")
        code = retriever.with_options(instruction="Given an error message, retrieve its fix").retrieve("code 1100")
        exact = retriever.with_options(mode="hybrid").retrieve("MilvusException 1100")
        several = Qwen3Retriever.from_collections(["faq", "docs"], uri="./milvus.db")
        faq_only = several.with_options(collections=["faq"])
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        ```

    Args:
        source: An index or a retriever. Give the index itself where there is one: then `k`, `filters` and
            `instruction` reach the first stage; a retriever is asked as it was made. A mapping of names to such sources
            is searched as one: `k` candidates of each, one reranking of all.
        reranker: A `Qwen3Rerank`, or whatever its first argument can be. The options below override its own.
        k: How many candidates are reranked. `None` is 10 for a vector index and all that comes for other sources.
        mode: How a vector index is searched: `"dense"` by vector, `"sparse"` by words, `"hybrid"` by both; `None` is
            dense. Its store has to know the mode, as `MilvusStore` does.
        alpha: Weight of the vectors in a hybrid search, 0 to 1; `None` is the store's own way to fuse, for `MilvusStore`
            reciprocal rank fusion.
        filters: Metadata filters of the first stage; only for a vector index.
        collections: Which of several sources may be searched, by name; `None` is all. `with_options` can narrow that.
        callback_manager: LlamaIndex callbacks.
        **options: `top_n` (3), `score_threshold` (`None`) and `instruction`. The instruction goes to the reranker and,
            where the source is a vector index over a `Qwen3Embedding`, to the query's embedding too.

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
    """

    def __init__(
        self,
        source: Source | Mapping[str, Source],
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        k: int | None = None,
        mode: Mode | None = None,
        alpha: float | None = None,
        filters: MetadataFilters | None = None,
        collections: Sequence[str] | None = None,
        callback_manager: CallbackManager | None = None,
        **options: Unpack[RerankOptions],
    ) -> None:
        super().__init__(callback_manager=callback_manager)
        self._options = Options(k, mode, alpha, filters, options.get("instruction"))
        for one in source.values() if isinstance(source, Mapping) else [source]:
            self._options.check(one)
        self._source = _narrowed(source, collections)
        base = reranker if isinstance(reranker, Qwen3Rerank) else Qwen3Rerank(reranker)
        self._reranker = base.with_options(**options)
        self._rerank_options = options

    @classmethod
    def from_store(
        cls,
        store: BasePydanticVectorStore,
        embed_model: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Builds a retriever over a vector store that is filled already.

        Args:
            store: A `MilvusStore`, or any other LlamaIndex vector store that keeps the texts.
            embed_model: The model that filled it: a LlamaIndex embedding model, or the first argument of
                `Qwen3Embedding`.
            reranker: As for the class.
            **options: `k`, `mode`, `alpha`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        return cls(_index(store, embed_model), reranker, **options)

    @classmethod
    def from_collections(
        cls,
        names: Sequence[str],
        embed_model: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        uri: str | Path = "./milvus.db",
        store_options: CollectionOptions | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Builds a retriever over several Milvus collections of one database that are filled already.

        A question is embedded once, all collections are searched at the same time, and all candidates are reranked
        together.

        Args:
            names: The collections that may be searched; `with_options(collections=[…])` narrows that.
            embed_model: As for `from_store`.
            reranker: As for the class.
            uri: Milvus Lite file (ending in `.db`) or server address.
            store_options: Further options of `MilvusStore`, such as `token`.
            **options: As for `from_store`; `k` is for each collection.
        """
        check_names(names)
        model = _model(embed_model)
        stores = {name: MilvusStore(uri, name, **(store_options or {})) for name in names}
        return cls({name: _index(store, model) for name, store in stores.items()}, reranker, **options)

    @classmethod
    def from_nodes(
        cls,
        nodes: Sequence[BaseNode],
        embed_model: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        uri: str | Path = "./milvus.db",
        collection: str = "qwen3_rag",
        store: BasePydanticVectorStore | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Embeds nodes that have no embedding yet, stores them and builds a retriever over the store.

        A node replaces the one with its id. The nodes themselves stay as they are.

        Args:
            nodes: What to store, cut to passages already.
            embed_model: A LlamaIndex embedding model, or the first argument of `Qwen3Embedding`.
            reranker: As for the class.
            uri: Milvus Lite file (ending in `.db`) or server address.
            collection: Name of the collection.
            store: Where to store instead of `uri` and `collection`.
            **options: `k`, `mode`, `alpha`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        index = _index(store or MilvusStore(uri, collection), embed_model)
        retriever = cls(index, reranker, **options)  # first, so that a bad option costs no embedding
        if isinstance(index.vector_store, MilvusStore):
            index.vector_store.client.check_writable()
        index.insert_nodes(list(nodes))  # which reads them twice
        if isinstance(index.vector_store, MilvusStore):
            index.vector_store.persist()
        return retriever

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        embed_model: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        uri: str | Path = "./milvus.db",
        collection: str = "qwen3_rag",
        store: BasePydanticVectorStore | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Embeds and stores passages and builds a retriever over them.

        Args:
            texts: The passages.
            embed_model: As for `from_nodes`.
            reranker: As for the class.
            metadatas: One mapping for each text.
            ids: One identifier for each text; `None` lets it follow from text and metadata, so that storing the same
                passages again changes nothing.
            uri: Milvus Lite file (ending in `.db`) or server address.
            collection: Name of the collection.
            store: Where to store instead of `uri` and `collection`.
            **options: `k`, `mode`, `alpha`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.

        Raises:
            InputError: If the numbers differ, or two passages that differ have the same id.
        """
        nodes = text_nodes(texts, metadatas, ids)
        return cls.from_nodes(nodes, embed_model, reranker, uri=uri, collection=collection, store=store, **options)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        embed_model: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        transformations: Sequence[TransformComponent] | None = None,
        uri: str | Path = "./milvus.db",
        collection: str = "qwen3_rag",
        store: BasePydanticVectorStore | None = None,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Cuts documents into passages, embeds and stores them, and builds a retriever over them.

        Args:
            documents: LlamaIndex documents, as a reader gives them.
            embed_model: As for `from_nodes`.
            reranker: As for the class.
            transformations: What cuts them. By default LlamaIndex's `SentenceSplitter`, with ids that follow from the
                documents', so that storing documents with stable ids again adds nothing.
            uri: Milvus Lite file (ending in `.db`) or server address.
            collection: Name of the collection.
            store: Where to store instead of `uri` and `collection`.
            **options: `k`, `mode`, `alpha`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        steps = [SentenceSplitter(id_func=chunk_id)] if transformations is None else transformations
        nodes = run_transformations(documents, steps, in_place=False)
        return cls.from_nodes(nodes, embed_model, reranker, uri=uri, collection=collection, store=store, **options)

    def with_options(self, **options: Unpack[RetrieverOptions]) -> Self:
        """Returns a copy with other settings over the same source and weights.

        LlamaIndex's `retrieve` takes nothing but the query, so this is how one call gets its own settings.

        Args:
            **options: `k`, `mode`, `alpha`, `filters`, `collections` (of those that are left), `top_n`, `score_threshold`,
                `instruction`; what is not named stays.

        Raises:
            ConfigurationError: If a value can't work or a name is unknown.
        """
        given: dict[str, Any] = {"collections": None, **options}
        chosen = _narrowed(self._source, given.pop("collections"))
        own = {name: getattr(self._options, name) for name in ("k", "mode", "alpha", "filters")}
        settings: dict[str, Any] = {**own, **self._rerank_options, **given}
        return type(self)(chosen, self._reranker, callback_manager=self.callback_manager, **settings)

    def as_tool(self, name: str | None = None, description: str | None = None) -> SearchTool:
        """Returns a tool for an agent: it reads out the passages, and its raw output is the nodes.

        Args:
            name: What the model calls it; `search_documents` by default.
            description: What the model is told of it. Say what the documents are about.
        """
        return SearchTool(self, name, description)

    def stages(self) -> tuple[CandidateRetriever, Qwen3Rerank]:
        """Returns the two halves of this retriever, for those who rerank the candidates of several questions together."""
        return CandidateRetriever(self._stage(), self.callback_manager), self._reranker

    def _stage(self) -> FirstStage:
        if isinstance(self._source, Mapping):
            return first_stage_of_many(self._source, self._options)
        return first_stage(self._source, self._options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._reranker.postprocess_nodes(self._stage().fetch(query_bundle), query_bundle)

    # The base class makes a span of the sync method only.
    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._reranker.apostprocess_nodes(await self._stage().afetch(query_bundle), query_bundle)


def _narrowed(source: Source | Mapping[str, Source], names: Sequence[str] | None) -> Source | Mapping[str, Source]:
    if isinstance(source, Mapping):
        return {name: source[name] for name in allowed([*source], names)}
    if names is not None:
        raise ConfigurationError(
            f"collections={names!r} chooses among several sources, and there is one: give a mapping of names to sources, or "
            "use Qwen3Retriever.from_collections"
        )
    return source


def _model(embed_model: Any) -> BaseEmbedding:
    return embed_model if isinstance(embed_model, BaseEmbedding) else Qwen3Embedding(embed_model)


def _index(store: BasePydanticVectorStore, embed_model: Any) -> VectorStoreIndex:
    model = _model(embed_model)
    known = store.with_model(model) if isinstance(store, MilvusStore) else store
    # The index never cuts documents itself; a step of its own keeps it away from the global default splitter.
    return VectorStoreIndex.from_vector_store(known, embed_model=model, transformations=[model])
