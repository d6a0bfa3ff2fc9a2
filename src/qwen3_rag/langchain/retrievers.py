"""Over-fetch from any LangChain source, then rerank with Qwen3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, Unpack

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import VectorStore
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.langchain._cancelling import ended_if_cancelled
from qwen3_rag.langchain._candidates import CandidateRetriever
from qwen3_rag.langchain._first_stage import FirstStage, Source, first_stage, first_stage_of_many, tracing_params
from qwen3_rag.langchain.embeddings import as_embeddings
from qwen3_rag.langchain.rerankers import Qwen3Reranker, RerankOptions
from qwen3_rag.langchain.tools import search_tool
from qwen3_rag.langchain.vectorstores import MilvusStore, StoreOptions, split_options
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL, DEFAULT_RERANKER_MODEL
from qwen3_rag.retrieval import Mode, allowed, check_names


class RetrieverOptions(StoreOptions, RerankOptions, total=False):
    """What the constructors that make their own store take beside the two models."""

    k: int | None
    mode: Mode | None
    search_kwargs: Mapping[str, Any] | None


class Qwen3Retriever(BaseRetriever):
    """Fetches `k` candidates, reranks them with Qwen3-Reranker and returns the best `top_n`.

    Documents come back as copies; their metadata gain `relevance_score` (P(yes)), `retrieval_score` (the source's own
    number, where it gives one) and `retrieval_rank` (the position before, from 1); after a hybrid search of a
    `MilvusStore` also `dense_rank`, `dense_score`, `sparse_rank` and `sparse_score`, and from one of several sources its
    name as `retrieval_collection`. In traces the embedding (`embed_query`), the search of each source (`search`) and the
    reranking (`Qwen3Rerank`) are runs of their own. Every setting can be given per call, as an argument of `invoke`, or in
    its `config` after LangChain's `configurable_fields`.

    Example:
        ```python
        from qwen3_rag.langchain import Qwen3Retriever

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        documents = retriever.invoke("How is data stored in milvus?")
        fixes = retriever.invoke("code 1100", k=30, instruction="Given an error message, retrieve its fix")
        exact = retriever.invoke("MilvusException 1100", mode="hybrid")
        several = Qwen3Retriever.from_collections(["faq", "docs"], uri="./milvus.db", mode="hybrid")
        faq_only = several.invoke("How is data stored in milvus?", collections=["faq"])
        ```

    Args:
        source: Any LangChain vector store or retriever. Give the store itself where there is one: then `k`, filters and
            `instruction` reach the first stage; a retriever is asked as it was made. A mapping of names to such sources
            is searched as one: `k` candidates of each, one reranking of all.
        reranker: A `Qwen3Reranker`, or whatever its first argument can be.
        k: How many candidates are reranked. `None` is 10 from a vector store and all that a retriever returns.
        mode: How a `MilvusStore` is searched: `"dense"` by vector, `"sparse"` by words (BM25, or the model's sparse
            vectors), `"hybrid"` by both. `None` is dense.
        collections: Which of several sources may be searched, by name; `None` is all. A call can narrow that further.
        top_n: How many documents come back at most; `None` is the reranker's own, 3 if nothing else was said.
        score_threshold: Lowest P(yes) that comes back; `None` is the reranker's own.
        instruction: What the retrieval is for. It goes to the reranker and, where the source is a store over
            `Qwen3Embeddings`, to the query's embedding. `None` leaves each its own.
        search_kwargs: Passed to the source in every call, such as `{"filter": {"source": "faq"}}`.
        **kwargs: LangChain's `name`, `tags` and `metadata`.

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    source: Source | Mapping[str, Source]
    reranker: Qwen3Reranker
    k: int | None = None
    mode: Mode | None = None
    collections: Sequence[str] | None = None
    top_n: int | None = None
    score_threshold: float | None = None
    instruction: str | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    def __init__(
        self,
        source: Source | Mapping[str, Source],
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        k: int | None = None,
        mode: Mode | None = None,
        collections: Sequence[str] | None = None,
        top_n: int | None = None,
        score_threshold: float | None = None,
        instruction: str | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for one in source.values() if isinstance(source, Mapping) else [source]:
            if not isinstance(one, VectorStore | Runnable):
                raise ConfigurationError(
                    f"source must be a LangChain vector store or retriever, got {type(one).__name__}: "
                    "for texts or a collection use Qwen3Retriever.from_texts or from_collection"
                )
        if wrong := [name for name in source if not isinstance(name, str)] if isinstance(source, Mapping) else []:
            raise ConfigurationError(f"the names of sources must be strings, got {wrong[0]!r}")
        if not isinstance(search_kwargs, Mapping | None):
            raise ConfigurationError(f"search_kwargs must be a mapping, got {search_kwargs!r}")
        reranker = reranker if isinstance(reranker, Qwen3Reranker) else Qwen3Reranker(reranker)
        try:
            super().__init__(
                source=source,
                reranker=reranker,
                k=k,
                mode=mode,
                collections=collections,
                top_n=top_n,
                score_threshold=score_threshold,
                instruction=instruction,
                search_kwargs=dict(search_kwargs or {}),
                **kwargs,
            )
        except ValidationError as error:
            wrong = [f"{one['loc'][0]}: {one['msg']}, got {one['input']!r:.80}" for one in error.errors()]
            raise ConfigurationError(f"{type(self).__name__} can't have {'; '.join(wrong)}") from error
        self._plan({})  # checks the settings

    @classmethod
    def from_collection(
        cls,
        collection: str | MilvusCollection = "qwen3_rag",
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Builds a retriever over a Milvus collection that is filled already.

        Args:
            collection: Its name, or a `qwen3_rag.milvus.MilvusCollection`.
            embedding: The model that filled it: LangChain embeddings, or the first argument of `Qwen3Embeddings`.
            reranker: As for the class.
            **options: `k`, `mode`, `top_n`, `score_threshold`, `instruction`, `search_kwargs` as for the class, and
                those of `MilvusCollection`: `uri`, `token`, `db_name`, `metric`, …
        """
        return cls._build(collection, embedding, reranker, options)[0]

    @classmethod
    def from_collections(
        cls,
        names: Sequence[str],
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Builds a retriever over several Milvus collections of one database that are filled already.

        A question is embedded once, all collections are searched at the same time, and all candidates are reranked
        together.

        Args:
            names: The collections that may be searched; `collections=[…]` narrows that for a call.
            embedding: The model that filled them: LangChain embeddings, or the first argument of `Qwen3Embeddings`.
            reranker: As for the class.
            **options: As for `from_collection`; `k` is for each collection.
        """
        check_names(names)
        settings, opened = split_options(options)
        embeddings = as_embeddings(embedding)
        return cls({name: MilvusStore(embeddings, name, **opened) for name in names}, reranker, **settings)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        collection: str | MilvusCollection = "qwen3_rag",
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Embeds and stores passages in Milvus and builds a retriever over them.

        Args:
            texts: The passages.
            embedding: LangChain embeddings, or the first argument of `Qwen3Embeddings`.
            reranker: As for the class.
            metadatas: One mapping for each text.
            ids: One for each text. By default they follow from text and metadata, so that storing the same passages
                again changes nothing.
            collection: As for `from_collection`.
            **options: As for `from_collection`.
        """
        retriever, store = cls._build(collection, embedding, reranker, options)
        store.add_texts(texts, metadatas, ids=ids)
        store.collection.flush()
        return retriever

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        collection: str | MilvusCollection = "qwen3_rag",
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Async twin of `from_texts`."""
        retriever, store = cls._build(collection, embedding, reranker, options)
        await store.aadd_texts(texts, metadatas, ids=ids)
        await run_in_executor(None, store.collection.flush)
        return retriever

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        collection: str | MilvusCollection = "qwen3_rag",
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """As `from_texts`, for documents that are cut to passages already; their ids are kept."""
        retriever, store = cls._build(collection, embedding, reranker, options)
        store.add_documents(list(documents))
        store.collection.flush()
        return retriever

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Any = DEFAULT_EMBEDDING_MODEL,
        reranker: Any = DEFAULT_RERANKER_MODEL,
        *,
        collection: str | MilvusCollection = "qwen3_rag",
        **options: Unpack[RetrieverOptions],
    ) -> Self:
        """Async twin of `from_documents`."""
        retriever, store = cls._build(collection, embedding, reranker, options)
        await store.aadd_documents(list(documents))
        await run_in_executor(None, store.collection.flush)
        return retriever

    @override
    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: dict[str, type] | None = None,
    ) -> BaseTool:
        """Returns a tool for an agent: it reads out the passages, and its artifact is the documents.

        Args:
            args_schema: What the model may give: `query`, and whatever else goes to `invoke` (`k`, `mode`, …). By default
                the query alone.
            name: What the model calls it; the retriever's own name or `search_documents` by default.
            description: What the model is told of it. Say what the documents are about.
            arg_types: The arguments and their types instead of `args_schema`.

        Raises:
            ConfigurationError: If the arguments have no `query`, or both ways to give them are used.
        """
        return search_tool(self, args_schema, name=name, description=description, arg_types=arg_types)

    def stages(self, **options: Any) -> tuple[CandidateRetriever, Qwen3Reranker]:
        """Returns the two halves of this retriever, for those who rerank the candidates of several questions together.

        Args:
            **options: What `invoke` takes.

        Raises:
            ConfigurationError: If a value can't work.
        """
        stage, reranker = self._plan(options)
        return CandidateRetriever(stage=stage, traced=tracing_params(self.source)), reranker

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        stage, reranker = self._plan(kwargs)
        candidates = stage.fetch(query, run_manager.get_child())
        return reranker.compress_documents(candidates, query, run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        stage, reranker = self._plan(kwargs)
        async with ended_if_cancelled(run_manager.on_retriever_error):
            candidates = await stage.afetch(query, run_manager.get_child())
            return await reranker.acompress_documents(candidates, query, run_manager.get_child())

    def _plan(self, given: Mapping[str, Any]) -> tuple[FirstStage, Qwen3Reranker]:
        """Merges a call's arguments with the instance's and checks them before anything is sent.

        What this class does not know goes to the source, which acts on it or raises.
        """
        names = RerankOptions.__annotations__
        own = {"k", "mode", "collections", *names}
        if misplaced := sorted(self.search_kwargs.keys() & own):
            raise ConfigurationError(f"search_kwargs can't have {', '.join(misplaced)}: give it as its own argument")
        kept = {name: value for name in names if (value := getattr(self, name)) is not None}
        options: Any = {**kept, **{name: value for name, value in given.items() if name in names}}
        further = {**self.search_kwargs, **{name: value for name, value in given.items() if name not in own}}
        mode = given.get("mode", self.mode)
        stage = self._stage(
            given.get("collections"),
            k=given.get("k", self.k),
            instruction=options.get("instruction"),
            options=further if mode is None else {**further, "mode": mode},
        )
        return stage, self.reranker.with_options(**options)

    def _stage(self, asked: Sequence[str] | None, **arguments: Any) -> FirstStage:
        if isinstance(self.source, Mapping):
            names = allowed([*self.source], self.collections, asked)
            return first_stage_of_many({name: first_stage(self.source[name], **arguments) for name in names})
        if asked is not None or self.collections is not None:
            raise ConfigurationError(
                f"collections={asked or self.collections!r} chooses among several sources, and there is one: give a mapping "
                "of names to sources, or use Qwen3Retriever.from_collections"
            )
        return first_stage(self.source, **arguments)

    @classmethod
    def _build(
        cls, collection: str | MilvusCollection, embedding: Any, reranker: Any, options: RetrieverOptions
    ) -> tuple[Self, MilvusStore]:
        settings, opened = split_options(options)
        store = MilvusStore(embedding, collection, **opened)
        return cls(store, reranker, **settings), store

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        traced: Any = tracing_params(self.source)
        params.update(traced)
        return params
