"""Over-fetch from any LlamaIndex source, then rerank with Qwen3."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import llama_index.core.instrumentation as instrument
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.base import BaseIndex
from llama_index.core.ingestion import run_transformations
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, Document, NodeWithScore, QueryBundle, TextNode, TransformComponent
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.postprocessors import Qwen3Rerank, RerankOptions
from qwen3_rag.llama_index.vector_stores import MilvusStore
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL, DEFAULT_RERANKER_MODEL
from qwen3_rag.retrieval import DEFAULT_K, check_k, content_id

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class RetrieverOptions(RerankOptions, total=False):
    """What `Qwen3Retriever.with_options` can change."""

    k: int | None
    filters: MetadataFilters | None


class Qwen3Retriever(BaseRetriever):
    """Fetches `k` candidates, reranks them with Qwen3-Reranker and returns the best `top_n`.

    Nodes come back as copies with both scores, as `Qwen3Rerank` describes. Anything that takes a LlamaIndex retriever
    takes this one.

    Example:
        ```python
        from llama_index.core.query_engine import RetrieverQueryEngine
        from qwen3_rag.llama_index import Qwen3Retriever

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        nodes = retriever.retrieve("How is data stored in milvus?")
        code = retriever.with_options(instruction="Given an error message, retrieve its fix").retrieve("code 1100")
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        ```

    Args:
        source: An index or a retriever. Give the index itself where there is one: then `k`, `filters` and
            `instruction` reach the first stage; a retriever is asked as it was made.
        reranker: A `Qwen3Rerank`, or whatever its first argument can be. The options below override its own.
        k: How many candidates are reranked. `None` is 10 for a vector index and all that comes for other sources.
        filters: Metadata filters of the first stage; only for a vector index.
        callback_manager: LlamaIndex callbacks.
        **options: `top_n` (3), `score_threshold` (`None`) and `instruction`. The instruction goes to the reranker and,
            where the source is a vector index over a `Qwen3Embedding`, to the query's embedding too.

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
    """

    def __init__(
        self,
        source: BaseRetriever | BaseIndex[Any],
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        k: int | None = None,
        filters: MetadataFilters | None = None,
        callback_manager: CallbackManager | None = None,
        **options: Unpack[RerankOptions],
    ) -> None:
        if not isinstance(source, BaseRetriever | BaseIndex):
            raise ConfigurationError(
                f"source must be a LlamaIndex retriever or index, got {type(source).__name__}: "
                "for a vector store use Qwen3Retriever.from_store(store, embed_model)"
            )
        super().__init__(callback_manager=callback_manager)
        if k is not None:
            check_k(k)
        if filters is not None and not isinstance(source, VectorStoreIndex):
            raise ConfigurationError(
                f"filters can't reach the first stage of a {type(source).__name__}: "
                "set them where it is made, or give a VectorStoreIndex"
            )
        base = reranker if isinstance(reranker, Qwen3Rerank) else Qwen3Rerank(reranker)
        self._reranker = base.with_options(**options)
        self._source = source
        self._k = k
        self._filters = filters
        self._options = options

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
            **options: `k`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        return cls(_index(store, embed_model), reranker, **options)

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
            **options: `k`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        index = _index(store or MilvusStore(uri, collection), embed_model)
        retriever = cls(index, reranker, **options)  # first, so that a bad option costs no embedding
        index.insert_nodes(nodes)
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
            **options: `k`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.

        Raises:
            InputError: If the numbers differ, or two passages that differ have the same id.
        """
        nodes = _text_nodes(texts, metadatas, ids)
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
            **options: `k`, `filters`, `top_n`, `score_threshold`, `instruction`, as for the class.
        """
        steps = [SentenceSplitter(id_func=_chunk_id)] if transformations is None else transformations
        nodes = run_transformations(documents, steps, in_place=False)
        return cls.from_nodes(nodes, embed_model, reranker, uri=uri, collection=collection, store=store, **options)

    def with_options(self, **options: Unpack[RetrieverOptions]) -> Self:
        """Returns a copy with other settings over the same source and weights.

        LlamaIndex's `retrieve` takes nothing but the query, so this is how one call gets its own settings.

        Args:
            **options: `k`, `filters`, `top_n`, `score_threshold`, `instruction`; what is not named stays.

        Raises:
            ConfigurationError: If a value can't work or a name is unknown.
        """
        settings: dict[str, Any] = {"k": self._k, "filters": self._filters, **self._options, **options}
        return type(self)(self._source, self._reranker, callback_manager=self.callback_manager, **settings)

    def _first_stage(self) -> BaseRetriever:
        source = self._source
        if isinstance(source, BaseRetriever):
            return source
        if not isinstance(source, VectorStoreIndex):
            return source.as_retriever()
        return source.as_retriever(
            similarity_top_k=self._k or DEFAULT_K, filters=self._filters, embed_model=self._query_model(source)
        )

    def _query_model(self, index: VectorStoreIndex) -> BaseEmbedding | None:
        # LlamaIndex has no public way to ask an index for its model; `None` leaves it to the index.
        model = getattr(index, "_embed_model", None)
        instruction = self._options.get("instruction")
        if instruction is not None and isinstance(model, Qwen3Embedding):
            return model.with_instruction(instruction)
        return None

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nodes = self._first_stage().retrieve(_private(query_bundle))
        return self._reranker.postprocess_nodes(nodes[: self._k], query_bundle)

    # The base class makes a span of the sync method only.
    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nodes = await self._first_stage().aretrieve(_private(query_bundle))
        return await self._reranker.apostprocess_nodes(nodes[: self._k], query_bundle)


def _private(bundle: QueryBundle) -> QueryBundle:
    # LlamaIndex's vector retriever writes the vector into the caller's bundle, where it would answer for the next
    # instruction or model too.
    return dataclasses.replace(bundle)


def _index(store: BasePydanticVectorStore, embed_model: Any) -> VectorStoreIndex:
    model = embed_model if isinstance(embed_model, BaseEmbedding) else Qwen3Embedding(embed_model)
    # The index never cuts documents itself; a step of its own keeps it away from the global default splitter.
    return VectorStoreIndex.from_vector_store(store, embed_model=model, transformations=[model])


def _chunk_id(position: int, document: BaseNode) -> str:
    return f"{document.node_id}-{position}"


def _text_nodes(
    texts: Sequence[str], metadatas: Sequence[Mapping[str, Any]] | None, ids: Sequence[str | None] | None
) -> list[BaseNode]:
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of strings, got the string {texts!r:.80}: put it into a list")
    for name, values in (("metadatas", metadatas), ("ids", ids)):
        if values is not None and len(values) != len(texts):
            raise InputError(f"{name} must be as many as texts: got {len(values)} for {len(texts)}")
    metadatas = [{}] * len(texts) if metadatas is None else metadatas
    ids = [None] * len(texts) if ids is None else ids
    distinct: dict[str, BaseNode] = {}
    for text, metadata, given in zip(texts, metadatas, ids, strict=True):
        id_ = content_id(text, metadata) if given is None else given
        node = TextNode(id_=id_, text=text, metadata=dict(metadata))
        if distinct.setdefault(id_, node) != node:
            raise InputError(f"two passages that differ have the id {id_!r}: give each its own")
    return list(distinct.values())
