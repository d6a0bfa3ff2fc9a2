"""The stages of a retrieval as runs of their own in LangChain's callbacks, and so in every tracer.

Beneath the run of a `Qwen3Retriever` stand `embed_query`, one `search` for each source, and `Qwen3Rerank`. Without callbacks
nothing is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackManager, CallbackManager, Callbacks
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from qwen3_rag.langchain.embeddings import Qwen3Embeddings, Vector
from qwen3_rag.milvus import EmbeddedQuery

EMBED_RUN: Final = "embed_query"
"""Name of the run that embeds a question. Its type is `embedding`, its inputs `query` and, if one was given,
`instruction`; its outputs are `dimensions` and, of a sparse vector, `sparse_entries`: the numbers themselves would only
fill a trace."""

SEARCH_RUN: Final = "search"
"""Name of the run that asks one source: a retriever's, with the question as input and the candidates as output. Its
metadata say which `collection` was searched, in which `mode`, for how many (`k`); or, for another store, its `store`."""

T = TypeVar("T")
R_contra = TypeVar("R_contra", contravariant=True)


class Stage(Protocol[R_contra]):
    """How a step is told to callbacks. Each method returns what the manager's does: an awaitable from an async one."""

    def start(self, manager: Any) -> Any:
        """Returns the run."""
        ...

    def end(self, run: Any, result: R_contra, /) -> Any:
        """Tells the result."""
        ...

    def fail(self, run: Any, error: BaseException, /) -> Any:
        """Tells the error."""
        ...


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Embedding a question.

    Attributes:
        embeddings: What embeds it.
        query: The question.
        instruction: The call's own; `None` is the model's.
    """

    embeddings: Embeddings
    query: str
    instruction: str | None = None

    def start(self, manager: Any) -> Any:
        """Begins a run of type `embedding`; LangChain has no callback of its own for that."""
        model = self.embeddings
        named = {"model": model.model_name} if isinstance(model, Qwen3Embeddings) else {}
        inputs = (
            {"query": self.query}
            if self.instruction is None
            else {"query": self.query, "instruction": self.instruction}
        )
        about = _with_metadata(manager, {"provider": type(model).__name__, **named}, inherit=False)
        return about.on_chain_start(None, inputs, name=EMBED_RUN, run_type="embedding")

    def fail(self, run: Any, error: BaseException) -> Any:
        """Tells the error."""
        return run.on_chain_error(error)


class EmbedQuery(_Embedding):
    """Embedding a question to a dense vector."""

    __slots__ = ()

    def end(self, run: Any, result: Vector) -> Any:
        """Tells how long the vector is."""
        return run.on_chain_end({"dimensions": len(result)})


class EmbedQuestion(_Embedding):
    """Embedding a question to a sparse vector, and mostly to a dense one too."""

    __slots__ = ()

    def end(self, run: Any, result: EmbeddedQuery) -> Any:
        """Tells how long the vectors are that were made."""
        dense = {} if result.dense is None else {"dimensions": len(result.dense)}
        sparse = {} if result.sparse is None else {"sparse_entries": len(result.sparse.indices)}
        return run.on_chain_end({**dense, **sparse})


@dataclass(frozen=True, slots=True)
class Search(Generic[T]):
    """Asking one source.

    Attributes:
        query: The question.
        documents: Turns what was found into documents.
        metadata: Which source, and how it is asked.
    """

    query: str
    documents: Callable[[T], Sequence[Document]]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def start(self, manager: Any) -> Any:
        """Begins a run of a retriever."""
        about = _with_metadata(manager, self.metadata, inherit=False)
        return about.on_retriever_start(None, self.query, name=SEARCH_RUN)

    def end(self, run: Any, result: T) -> Any:
        """Tells the candidates."""
        return run.on_retriever_end(self.documents(result))

    def fail(self, run: Any, error: BaseException) -> Any:
        """Tells the error."""
        return run.on_retriever_error(error)


def traced(stage: Stage[T], callbacks: Callbacks, call: Callable[[], T]) -> T:
    """Calls something as a run of its own, if anybody listens.

    Args:
        stage: How it is told.
        callbacks: To whom; a manager tells of which run this one is a child.
        call: The work.

    Returns:
        What it returned.
    """
    manager = _listened(CallbackManager, callbacks)
    if manager is None:
        return call()
    run = stage.start(manager)
    try:
        result = call()
    except BaseException as error:
        stage.fail(run, error)
        raise
    stage.end(run, result)
    return result


async def atraced(stage: Stage[T], callbacks: Callbacks, call: Callable[[], Awaitable[T]]) -> T:
    """Async twin of `traced`."""
    manager = _listened(AsyncCallbackManager, callbacks)
    if manager is None:
        return await call()
    run = await stage.start(manager)
    try:
        result = await call()
    except BaseException as error:
        await stage.fail(run, error)
        raise
    await stage.end(run, result)
    return result


def marked(callbacks: Callbacks, metadata: Mapping[str, Any]) -> Callbacks:
    """Returns callbacks whose runs, and the runs beneath those, have further metadata."""
    if isinstance(callbacks, BaseCallbackManager) and callbacks.handlers:
        told: BaseCallbackManager = _with_metadata(callbacks, metadata, inherit=True)
        return told
    return callbacks


def _listened(kind: type[CallbackManager | AsyncCallbackManager], callbacks: Callbacks) -> BaseCallbackManager | None:
    """The manager, or `None` if nobody listens."""
    if callbacks is None:
        return None
    manager: BaseCallbackManager
    manager = callbacks if isinstance(callbacks, BaseCallbackManager) else kind.configure(callbacks)
    return manager if manager.handlers else None


def _with_metadata(manager: Any, metadata: Mapping[str, Any], *, inherit: bool) -> Any:
    copy = manager.copy()
    copy.add_metadata(dict(metadata), inherit=inherit)
    return copy
