# ruff: noqa: A002 - LangChain calls it `filter`
"""A Milvus collection as a LangChain vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._convert import batches, refuse, to_document, to_passages
from qwen3_rag.langchain._search import AnyFilter, MilvusSearch
from qwen3_rag.langchain.embeddings import Qwen3Embeddings, as_embeddings
from qwen3_rag.milvus import MilvusCollection, aembed_passages, embed_passages
from qwen3_rag.milvus.collection import CollectionOptions


class StoreOptions(CollectionOptions, total=False):
    """How a collection is opened and, if it does not exist, created; see `qwen3_rag.milvus.MilvusCollection`."""

    uri: str | Path


class MilvusStore(MilvusSearch):
    """A LangChain vector store on Milvus Lite, Milvus or Zilliz Cloud.

    Nothing is opened before the first call, and the collection is created by the first texts. A passage without an id
    gets one that follows from its text and metadata, so adding the same passages again replaces them. `filter` is a
    mapping such as `{"source": "faq", "year": {"$gte": 2024}}` or a `qwen3_rag.milvus.Filter`; what can't be expressed
    raises, and so does every argument that is not known.

    Every search takes `mode`: `"dense"`, `"sparse"` (BM25 over the words, in any language) or `"hybrid"`. With
    `sparse="model"` the sparse leg of a new collection holds the sparse vectors that the model makes instead, in the same
    request as the dense ones; DashScope's `text-embedding-v4` makes such. A new collection remembers the model of
    `Qwen3Embeddings`, and refuses another one later.

    Collections that `langchain_milvus.Milvus` wrote are opened under its own names, for searching and deleting, with the same
    filters: `MilvusStore(embedding, "LangChainCollection", metric="L2")`, since L2 is its default.

    Args:
        embedding: LangChain embeddings, or whatever the first argument of `Qwen3Embeddings` can be.
        collection: Name of the collection, or a `qwen3_rag.milvus.MilvusCollection` as it is.
        **options: Passed to `MilvusCollection`: `uri`, `token`, `db_name`, `metric`, `consistency`, `index`, `sparse`,
            `check_model`, `timeout`.

    Raises:
        ConfigurationError: If an argument has a value that cannot work, or `sparse="model"` meets embeddings that make no
            sparse vectors.

    Example:
        ```python
        from qwen3_rag.langchain import MilvusStore, Qwen3Embeddings

        store = MilvusStore(Qwen3Embeddings("Qwen/Qwen3-Embedding-0.6B"), uri="./milvus.db")
        store.add_texts(["Milvus stores segments in object storage."], [{"source": "faq"}])
        found = store.similarity_search_with_score("Where is data stored?", k=3, filter={"source": "faq"})
        found = store.similarity_search("error 1100", mode="hybrid")
        ```
    """

    def __init__(
        self,
        embedding: Any,
        collection: str | MilvusCollection = "qwen3_rag",
        **options: Unpack[StoreOptions],
    ) -> None:
        self._embedding = as_embeddings(embedding)
        self._collection = _open(collection, options)
        if self._collection.sparse == "model":
            self._sparse_model()

    def __repr__(self) -> str:
        return f"MilvusStore(collection={self._collection.name!r}, uri={str(self._collection.uri)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def embeddings(self) -> Embeddings:
        """What embeds texts and queries."""
        return self._embedding

    @property
    def collection(self) -> MilvusCollection:
        """The collection itself, for what LangChain has no word for, such as `count`, `find` and `drop`."""
        return self._collection

    def close(self) -> None:
        """Closes the connection; a Milvus Lite file is then free for other processes."""
        self._collection.close()

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Any,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Embeds and stores texts, and lets Milvus index them (a flush, which single additions leave to Milvus).

        Args:
            texts: The passages.
            embedding: As for the class.
            metadatas: One for each text.
            ids: One for each text.
            **kwargs: Passed to the class: `collection`, `uri`, …

        Returns:
            The store.
        """
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        store.collection.flush()
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Any,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Async twin of `from_texts`."""
        store = cls(embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids=ids)
        await run_in_executor(None, store.collection.flush)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds and stores texts; one with an id that is there already replaces it.

        Args:
            texts: The passages.
            metadatas: One mapping for each text, of JSON values; left as it is.
            ids: One for each text; `None` in place of one lets it follow from the content.
            batch_size: How many are embedded and stored at a time; `None` is all in one call, which the model packs
                itself. What earlier batches stored stays if a later one fails.
            **kwargs: None: anything here raises.

        Returns:
            The ids, in the order of the texts.

        Raises:
            InputError: If the numbers differ, or two passages that differ have the same id.
            CollectionError: If another model wrote the collection, or another tool laid it out in its own way; nothing was
                embedded.
        """
        refuse(kwargs)
        chosen, passages = to_passages(texts, metadatas, ids)
        if passages:
            self._check_writable()
        for batch in batches(passages, batch_size):
            self._collection.upsert(batch, **self._embedded([p.text for p in batch]), **self._writer())
        return chosen

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Async twin of `add_texts`."""
        refuse(kwargs)
        chosen, passages = to_passages(texts, metadatas, ids)
        if passages:
            await asyncio.to_thread(self._check_writable)
        for batch in batches(passages, batch_size):
            await self._collection.aupsert(batch, **await self._aembedded([p.text for p in batch]), **self._writer())
        return chosen

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents with these ids, in their order; missing ones are left out."""
        return [to_document(passage) for passage in self._collection.get(ids)]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Async twin of `get_by_ids`."""
        return [to_document(passage) for passage in await self._collection.aget(ids)]

    def delete(self, ids: Sequence[str] | None = None, *, filter: AnyFilter | None = None, **kwargs: Any) -> bool:
        """Deletes by id or by metadata.

        Args:
            ids: What to delete; ids that do not exist are no error, and an empty list deletes nothing.
            filter: Deletes what matches; give one of the two.
            **kwargs: None: anything here raises.

        Returns:
            `True`.

        Raises:
            InputError: If neither or both are given. `None` never means all; `collection.drop()` deletes all.
            FilterError: If the filter can't be expressed, or matches everything, as `{}` does.
        """
        refuse(kwargs)
        self._collection.delete(ids=ids, filter=filter)
        return True

    async def adelete(
        self, ids: Sequence[str] | None = None, *, filter: AnyFilter | None = None, **kwargs: Any
    ) -> bool:
        """Async twin of `delete`."""
        refuse(kwargs)
        await self._collection.adelete(ids=ids, filter=filter)
        return True

    def _check_writable(self) -> None:
        self._collection.check_writable()
        self._verify()

    def _embedded(self, texts: list[str]) -> dict[str, Any]:
        """The vectors of `MilvusCollection.upsert`; the sparse ones come in the same request."""
        if not self.takes_sparse():
            return {"vectors": self._embedding.embed_documents(texts)}
        model = self._sparse_model()
        found = embed_passages(self._collection, model.embedder, texts, dimensions=model.dimensions)
        return {"vectors": found.vectors, "sparse": found.sparse}

    async def _aembedded(self, texts: list[str]) -> dict[str, Any]:
        if not await asyncio.to_thread(self.takes_sparse):
            return {"vectors": await self._embedding.aembed_documents(texts)}
        model = self._sparse_model()
        found = await aembed_passages(self._collection, model.embedder, texts, dimensions=model.dimensions)
        return {"vectors": found.vectors, "sparse": found.sparse}

    def _writer(self) -> dict[str, Any]:
        """What goes into the contract of a new collection."""
        if not isinstance(self._embedding, Qwen3Embeddings):
            return {}
        return {"embedder": self._embedding.embedder, "instruction": self._embedding.instruction}


def _open(collection: str | MilvusCollection, options: StoreOptions) -> MilvusCollection:
    if not isinstance(collection, MilvusCollection):
        return MilvusCollection(collection=collection, **options)
    if options:
        raise ConfigurationError(
            f"the collection is ready made, so {', '.join(map(repr, options))} can't be set here: "
            "set it where the collection is made"
        )
    return collection


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], StoreOptions]:
    """Parts other settings from the options of a collection."""
    settings = dict(options)
    opened: Any = {name: settings.pop(name) for name in StoreOptions.__optional_keys__ if name in settings}
    return settings, opened
