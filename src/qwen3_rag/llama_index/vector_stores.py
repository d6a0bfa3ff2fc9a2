"""A Milvus collection as a LlamaIndex vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, Unpack

import llama_index.core.instrumentation as instrument
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index.embeddings import Qwen3Embedding
from qwen3_rag.llama_index.nodes import embedded_texts, to_node, to_passage, vectors
from qwen3_rag.llama_index.queries import Search, deletion, of_document, refuse, selection
from qwen3_rag.milvus import MilvusCollection, as_sparse_embedder
from qwen3_rag.milvus.collection import CollectionOptions
from qwen3_rag.types import SparseVector

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]

DEFAULT_URI = "./milvus.db"


class MilvusStore(BasePydanticVectorStore):
    """A LlamaIndex vector store on Milvus Lite, Milvus or Zilliz Cloud.

    Nothing is opened before the first call, and the collection is created by the first nodes. Nodes come back as they
    were: class, metadata with their types, relationships, excluded keys. Passages that other tools wrote into the
    collection come back as `TextNode`.

    Collections of `langchain_milvus.Milvus` are opened under its own names, for searching and deleting, with `metric="L2"` if
    that was left at its default.

    Metadata filters are converted whole or refused with a `FilterError`, see `qwen3_rag.llama_index.filters`. Query
    modes are `DEFAULT`, `SPARSE` or `TEXT_SEARCH` (by words, with BM25), `HYBRID` (both, fused) and `MMR`.

    With `sparse="model"` the sparse leg of a new collection holds the sparse vectors of `embed_model` instead, of which
    DashScope's `text-embedding-v4` makes such. Nodes and questions come with their dense vectors, since LlamaIndex's index
    embeds them; the store asks the model for the sparse ones in a request of its own.

    Example:
        ```python
        from llama_index.core import StorageContext, VectorStoreIndex
        from qwen3_rag.llama_index import MilvusStore, Qwen3Embedding

        store = MilvusStore("./milvus.db", embed_model=Qwen3Embedding())
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Qwen3Embedding())
        index = VectorStoreIndex.from_vector_store(store, embed_model=Qwen3Embedding())  # the next day
        ```

    Args:
        uri: Milvus Lite file (ending in `.db`) or server address; `./milvus.db` if absent.
        collection: Name of the collection, or a `qwen3_rag.milvus.MilvusCollection` as it is.
        embed_model: The model that makes the nodes' and the queries' vectors, if it is a `Qwen3Embedding`: a new collection
            remembers it, and refuses another one later; it makes the sparse vectors of `sparse="model"`. `Qwen3Retriever`
            sets it by itself.
        options: Further options as one mapping, as `to_dict` writes them, which leaves the token out.
        **more: Passed to `MilvusCollection`: `token`, `db_name`, `metric`, `consistency`, `index`, `sparse`,
            `check_model`, `timeout`.

    Raises:
        ConfigurationError: If an argument has a value that cannot work, or `sparse="model"` meets a model that makes no
            sparse vectors.
    """

    stores_text: bool = Field(default=True, exclude=True)
    is_embedding_query: bool = Field(default=True, exclude=True)
    flat_metadata: bool = Field(default=False, exclude=True)

    uri: str = Field(description="Path or address of the database.")
    collection: str = Field(description="Name of the collection.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the collection, but no token.")

    _collection: MilvusCollection = PrivateAttr()
    _embed_model: Qwen3Embedding | None = PrivateAttr(default=None)

    def __init__(
        self,
        uri: str | Path | None = None,
        collection: str | MilvusCollection = "qwen3_rag",
        *,
        embed_model: Qwen3Embedding | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Unpack[CollectionOptions],
    ) -> None:
        settings = {**(options or {}), **more}
        opened = _open(uri, collection, settings)
        public = {key: value for key, value in settings.items() if key != "token"}
        super().__init__(stores_text=True, uri=opened.uri, collection=opened.name, options=public)
        self._collection = opened
        self._embed_model = embed_model
        self._check_model(embed_model)

    @classmethod
    def class_name(cls) -> str:
        """Returns the name that LlamaIndex serialises."""
        return "MilvusStore"

    @property
    def client(self) -> MilvusCollection:
        """The collection itself, for what LlamaIndex has no word for, such as `count` and `exists`."""
        return self._collection

    def with_model(self, embed_model: BaseEmbedding) -> Self:
        """Returns a copy for a model over the same open collection; a model that is no `Qwen3Embedding` is forgotten.

        Raises:
            ConfigurationError: If the store is one with `sparse="model"`, and the model makes no sparse vectors.
        """
        self._check_model(embed_model)
        copy = self.model_copy()
        copy._embed_model = embed_model if isinstance(embed_model, Qwen3Embedding) else None  # noqa: SLF001 - our own
        return copy

    def verify(self) -> None:
        """Compares the collection's contract with the model, if there is one.

        Raises:
            CollectionError: If another model wrote the collection.
        """
        if self._embed_model is not None:
            self._collection.verify(self._embed_model.embedder, dimensions=self._embed_model.dimensions)

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Stores nodes; one with an id that is there already replaces it.

        Args:
            nodes: Nodes with embeddings; left as they are.
            **kwargs: None: anything here raises.

        Returns:
            Their ids, in order.

        Raises:
            InputError: If a node has no embedding or can't be stored; then none was.
            CollectionError: If another model wrote the collection, its vectors have another length, or another tool laid it
                out in its own way, so that it is for reading and deleting.
        """
        refuse(kwargs)
        passages, dense = [to_passage(node) for node in nodes], vectors(nodes)
        if nodes and self.takes_sparse():
            self._collection.check_writable()
            self.verify()
            sparse = self._sparse_model().sparse_texts(embedded_texts(nodes))
            self._collection.upsert(passages, dense, sparse=sparse, **self._writer())
        else:
            self._collection.upsert(passages, dense, **self._writer())
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Async twin of `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes that were cut from a document.

        Raises:
            InputError: If it is no id. Nodes without a document are never meant.
        """
        refuse(delete_kwargs)
        self._collection.delete(filter=of_document(ref_doc_id))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Async twin of `delete`."""
        refuse(delete_kwargs)
        await self._collection.adelete(filter=of_document(ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Deletes nodes by id, by metadata, or those that fit both.

        Raises:
            InputError: If that would be all nodes; `clear` deletes all.
            FilterError: If the filters can't be expressed.
        """
        refuse(delete_kwargs)
        self._collection.delete(**deletion(node_ids, filters))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Async twin of `delete_nodes`."""
        refuse(delete_kwargs)
        await self._collection.adelete(**deletion(node_ids, filters))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Returns nodes by id (in that order), by metadata, or those that fit both; all if neither is given.

        They carry no embeddings.
        """
        if node_ids is not None and filters is None:
            return [to_node(passage) for passage in self._collection.get(node_ids)]
        return [to_node(passage) for passage in self._collection.find(selection(node_ids, filters))]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Async twin of `get_nodes`."""
        if node_ids is not None and filters is None:
            return [to_node(passage) for passage in await self._collection.aget(node_ids)]
        return [to_node(passage) for passage in await self._collection.afind(selection(node_ids, filters))]

    def clear(self) -> None:
        """Drops the collection; the next `add` creates it again."""
        self._collection.drop()

    async def aclear(self) -> None:
        """Async twin of `clear`."""
        await asyncio.to_thread(self.clear)

    # One span for both ways to ask: the async one runs this in a thread, which knows the span that it belongs to.
    @dispatcher.span
    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Finds the best nodes.

        Args:
            query: `query_embedding` (for all modes but `SPARSE` and `TEXT_SEARCH`), `query_str` (for those and `HYBRID`),
                `similarity_top_k`, `filters`, `doc_ids`, `node_ids` (an empty list restricts nothing, since LlamaIndex's
                indexes always send one), `mode` and `mmr_threshold`. For `HYBRID`: `alpha` (from 0, words alone, to 1,
                vectors alone; without it, reciprocal rank fusion), `hybrid_top_k` (how many come back, instead of
                `similarity_top_k`) and `sparse_top_k` (how many each leg finds, at least as many as come back).
            **kwargs: For `SPARSE` and `HYBRID`: `sparse_vector`, as `sparse_query` returns it, if the question was embedded
                already. For MMR: `mmr_threshold` (0, as different as possible, to 1, as near as possible; 0.5), and how
                many it chooses from: `mmr_prefetch_k`, or `mmr_prefetch_factor` (4) times `similarity_top_k`.

        Returns:
            Nodes, ids and similarities, larger is better: cosine or inner product; the number of the sparse leg, of which
            BM25's is comparable within one answer only; or the fused score between 0 and 1. MMR returns the same
            similarities in its own order.

        Raises:
            InputError: If the mode needs an embedding or a question, and there is none.
            ConfigurationError: If the collection holds sparse vectors, and no model is known that makes the question's.
            UnsupportedError: If the mode is another.
            FilterError: If the filters can't be expressed; nothing was searched.
            CollectionError: If another model wrote the collection, or it has no full text to search by words.
        """
        search = Search.of(query, kwargs)
        sparse = search.text is not None and self.takes_sparse()
        if sparse or search.vector is not None:
            self.verify()
        if sparse and search.sparse is None:
            search = replace(search, sparse=self.sparse_query(search.text or ""))
        return search.ask(self._collection)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Async twin of `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def takes_sparse(self) -> bool:
        """Whether the sparse leg of the collection holds the sparse vectors of a model; opens it to find out."""
        return self._collection.sparse_leg == "model"

    def sparse_query(self, query: str) -> SparseVector:
        """Makes the sparse vector of a question, for a collection that holds such.

        Raises:
            ConfigurationError: If no model is known, or it makes no sparse vectors.
        """
        return self._sparse_model().sparse_query(query)

    def persist(self, persist_path: str = "", fs: Any = None) -> None:  # noqa: ARG002 - LlamaIndex's signature
        """Flushes, which lets Milvus index what is new; call it once after an ingest, as `StorageContext.persist` does.

        The nodes themselves are kept from `add` on. Milvus Lite searches what was not flushed 10 to 100 times slower.

        Args:
            persist_path: Without meaning: the database is where `uri` says.
            fs: Without meaning.
        """
        self._collection.flush()

    def close(self) -> None:
        """Closes the connection; a Milvus Lite file is then free for other processes. The next call opens again."""
        self._collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _check_model(self, embed_model: BaseEmbedding | None) -> None:
        if self._collection.sparse == "model" and embed_model is not None:
            as_sparse_embedder(embed_model.embedder if isinstance(embed_model, Qwen3Embedding) else embed_model)

    def _sparse_model(self) -> Qwen3Embedding:
        if self._embed_model is None:
            raise ConfigurationError(
                f"collection {self._collection.name!r} holds the sparse vectors of a model, and this store knows no model that "
                "makes them: give it as MilvusStore(…, embed_model=Qwen3Embedding('dashscope:text-embedding-v4'))"
            )
        return self._embed_model

    def _writer(self) -> dict[str, Any]:
        """What goes into the contract of a new collection."""
        model = self._embed_model
        return {} if model is None else {"embedder": model.embedder, "instruction": model.instruction}


def _open(uri: str | Path | None, collection: str | MilvusCollection, options: dict[str, Any]) -> MilvusCollection:
    if not isinstance(collection, MilvusCollection):
        return MilvusCollection(DEFAULT_URI if uri is None else uri, collection, **options)
    given = [*([] if uri is None else ["uri"]), *options]
    if given:
        raise ConfigurationError(
            f"the collection is ready made, so {', '.join(given)} can't be set here: set it where it is made"
        )
    return collection
