"""One request of a call, and what becomes of it; the reading is the framework's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from qwen3_rag.errors import ChatError
from qwen3_rag.thinking.asked import Asked
from qwen3_rag.thinking.failures import to_error
from qwen3_rag.thinking.plan import heal, plan
from qwen3_rag.thinking.turn import Turn
from qwen3_rag.thinking.wire import WireError


class Attempt:
    """A planned request; use it as a context manager around sending and reading.

    On leaving, a refusal that can be healed is swallowed, so that the call can be planned and sent again; every other
    failure of the wire is raised as this package's error, with what had arrived. Reserved reasoning tokens are given back
    on every way out but the good one, on which `Turn.finish` settles them.

    Args:
        asked: The call.
        classes: A framework's own subclasses of our errors, to be raised instead of them.

    Attributes:
        asked: As given.
        plan: What is sent, and why.
        turn: Reads the answer.
        heard: Something of the answer has been passed on, so that the call can't be sent again any more.
        healed: It was refused, but the server said what to change.
        request_id: The server's name for it, once its answer began.
    """

    def __init__(self, asked: Asked, classes: Mapping[type[ChatError], type[ChatError]] | None = None) -> None:
        self.asked = asked
        self.plan = plan(asked.call)
        self.turn = Turn(asked.call, self.plan)
        self.heard = asked.formats  # the first call has passed on its reasoning
        self.healed = False
        self.request_id: str | None = None
        self._classes = classes

    def request(self) -> dict[str, Any]:
        """Returns the arguments of the SDK's `create`."""
        return self.asked.request(self.plan)

    def opened(self, headers: Mapping[str, str]) -> None:
        """Takes note of the HTTP response before it is read: the errors of a stream don't name the request."""
        self.request_id = headers.get("x-request-id") or None

    def check(self, body: Mapping[str, Any]) -> None:
        """Looks for an error that the SDK takes for an answer, or for a chunk of one.

        Raises:
            ChatError: If there is one.
        """
        wire = WireError.in_body(body)
        if wire is not None:
            raise self._explained(replace(wire, kind="event") if self.plan.stream else wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        try:
            if isinstance(error, ChatError):  # explained already
                error.request_id = error.request_id or self.request_id
                return False
            if not isinstance(error, Exception) or WireError.of(error) is None:
                return False  # cancelled, or no failure of the wire
            if not self.heard and heal(self.asked.call, error, tried=self.plan):
                self.healed = True
                return True
            explained = self._explained(error)
            raise explained from explained.__cause__
        finally:
            self.turn.abandon()

    def _explained(self, error: Exception | WireError) -> ChatError:
        call = self.asked.call
        return to_error(
            error,
            endpoint=call.endpoint,
            model=call.model,
            partial=self.turn.partial() or None,
            request_id=self.request_id,
            classes=self._classes,
        )
