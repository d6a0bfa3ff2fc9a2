"""A call until it is answered: planned, sent, planned anew when the server taught something, and read.

It is all that the four ways to call have in common; what they differ in is the sending.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatResponse

from qwen3_rag.llama_index._llm_answer import Answer, Thought
from qwen3_rag.thinking.asked import Asked
from qwen3_rag.thinking.attempt import Attempt


class Exchange(Attempt):
    """One request and its answer, as LlamaIndex's responses.

    Args:
        asked: The call.
        thought: What is left of the first answer, if this is to bring it into a format.
    """

    def __init__(self, asked: Asked, thought: Thought | None = None) -> None:
        super().__init__(asked)
        # A model that can't be told not to think gets no third call.
        silent = self.plan.think_first and not asked.formats
        self._answer = Answer(
            turn=self.turn,
            shown=asked.call.stream,
            form=asked.call.response_format if silent else None,
            thought=thought,
        )

    def read(self, raw: Any) -> Iterator[ChatResponse]:
        """Reads a chunk or a whole completion; yields a response if the user reads a stream and there is news."""
        body = self._answer.body(raw)
        self.check(body)
        response = self._answer.read(body, raw)
        if response is not None:
            self.heard = True
            yield response

    def end(self) -> Iterator[ChatResponse]:
        """Ends the answer and yields the last response."""
        response = self._answer.end()
        response.additional_kwargs["request_id"] = self.request_id
        self.heard = True
        yield response

    def follow_up(self) -> Exchange | None:
        """Returns what has to be sent next, if the call is not answered yet."""
        if self.healed:
            return Exchange(self.asked, self._answer.thought)
        if self._answer.silent:
            return Exchange(self.asked.formatting(self.turn.text), self._answer.as_thought())
        return None


def exchanges(asked: Asked) -> Iterator[Exchange]:
    """Yields what has to be sent, one after the other, until the call is answered.

    Args:
        asked: The call.
    """
    exchange: Exchange | None = Exchange(asked)
    while exchange is not None:
        yield exchange
        exchange = exchange.follow_up()
