"""Instrumentation that LlamaIndex has no decorator for: answers that come in pieces, and sparse embeddings."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import llama_index.core.instrumentation as instrument
from llama_index.core.base.response.schema import Response
from llama_index.core.instrumentation.events.embedding import SparseEmbeddingEndEvent, SparseEmbeddingStartEvent
from llama_index.core.instrumentation.events.query import QueryEndEvent, QueryStartEvent
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.schema import NodeWithScore
from llama_index_instrumentation.events.span import SpanDropEvent

from qwen3_rag.answering import Answer, Piece
from qwen3_rag.types import HybridEmbeddingResult, SparseVector

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


def told_sparse(
    model: Mapping[str, Any], texts: Sequence[str], embed: Callable[[], HybridEmbeddingResult]
) -> tuple[SparseVector, ...]:
    """Makes sparse vectors and tells of it.

    Args:
        model: What events say of the model.
        texts: What is embedded.
        embed: The work.
    """
    dispatcher.event(SparseEmbeddingStartEvent(model_dict=dict(model)))
    vectors = embed().sparse
    entries = [vector.as_dict() for vector in vectors]
    dispatcher.event(SparseEmbeddingEndEvent(chunks=list(texts), embeddings=entries))
    return vectors


@dataclass(frozen=True, slots=True)
class Streaming:
    """One streamed answer: the span around it, and the events of the query and of its synthesis.

    LlamaIndex's own decorator ends a span when a generator is made, before it has yielded anything.

    Attributes:
        method: What was called, such as `engine.stream`.
        question: With what.
        key: Under which the `Answer` stands in the metadata of the response that the events tell.
    """

    method: Callable[..., Any]
    question: str
    key: str

    def synthesized(self, nodes: Sequence[NodeWithScore], pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Tells of the synthesis, and so of the end of the query."""
        dispatcher.event(SynthesizeStartEvent(query=self.question))
        for piece in pieces:
            yield piece
        self._answered(nodes, piece)

    async def asynthesized(
        self, nodes: Sequence[NodeWithScore], pieces: AsyncGenerator[Piece, None]
    ) -> AsyncGenerator[Piece, None]:
        """Async twin of `synthesized`."""
        dispatcher.event(SynthesizeStartEvent(query=self.question))
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        self._answered(nodes, piece)

    def traced(self, pieces: Generator[Piece, None, None]) -> Iterator[Piece]:
        """Puts a span around all pieces, and around nothing that is done between them."""
        with self._span() as inside, closing(pieces):
            while True:
                with inside():
                    piece = next(pieces, None)
                if piece is None:
                    return
                yield piece

    async def atraced(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Async twin of `traced`."""
        with self._span() as inside:
            async with aclosing(pieces):
                while True:
                    with inside():
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece

    def _answered(self, nodes: Sequence[NodeWithScore], answer: Piece) -> None:
        if isinstance(answer, Answer):
            response = Response(answer.text, list(nodes), {self.key: answer})
            dispatcher.event(SynthesizeEndEvent(query=self.question, response=response))
            dispatcher.event(QueryEndEvent(query=self.question, response=response))

    @contextmanager
    def _span(self) -> Iterator[Callable[[], Any]]:
        engine = self.method.__self__  # type: ignore[attr-defined]
        id_ = f"{type(engine).__name__}.{self.method.__name__}-{uuid.uuid4()}"
        about: dict[str, Any] = {
            "id_": id_,
            "bound_args": inspect.signature(self.method).bind(self.question),
            "instance": engine,
        }

        @contextmanager
        def inside() -> Iterator[None]:
            token = active_span_id.set(id_)
            try:
                yield
            finally:
                active_span_id.reset(token)

        dispatcher.span_enter(**about, parent_id=active_span_id.get())
        try:
            with inside():
                dispatcher.event(QueryStartEvent(query=self.question))
            yield inside
        except GeneratorExit:  # who listened has heard enough
            dispatcher.span_exit(**about)
            raise
        except BaseException as error:
            with inside():
                dispatcher.event(SpanDropEvent(span_id=id_, err_str=str(error)))
            dispatcher.span_drop(**about, err=error)
            raise
        dispatcher.span_exit(**about)
