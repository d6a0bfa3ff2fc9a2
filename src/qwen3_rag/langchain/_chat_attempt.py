"""One request of a call of `ChatQwen3` and its answer, as pieces of LangChain's messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import openai
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk

from qwen3_rag.langchain._chat_errors import CLASSES
from qwen3_rag.langchain._chat_reader import ChoiceReader, usage_metadata
from qwen3_rag.thinking import Turn, WireError
from qwen3_rag.thinking.asked import Asked
from qwen3_rag.thinking.attempt import Attempt
from qwen3_rag.thinking.formatting import JSON_OBJECT

_ABOUT: Final[Mapping[str, str]] = {
    "model": "model_name",
    "id": "id",
    "system_fingerprint": "system_fingerprint",
    "service_tier": "service_tier",
}
_PREVIEW: Final = 200

Piece = tuple[int, ChatGenerationChunk]
"""Which choice, and more of it."""


class ChatAttempt(Attempt):
    """A planned request whose answer is read.

    Args:
        asked: The call.
        before: The first call, if this is the second one, that brings its answer into a format.

    Attributes:
        follow_up: After the end, the second call that is needed, if one is.
        usage: After the end, the token counts, those of `before` included.
        did: After the end, what the call did and why.
    """

    def __init__(self, asked: Asked, before: ChatAttempt | None = None) -> None:
        super().__init__(asked, CLASSES)
        self.follow_up: Asked | None = None
        self.usage: UsageMetadata | None = None
        self.did: dict[str, Any] = {}
        self._before = before
        self._reader = ChoiceReader(self.turn, hold=self.plan.think_first and not asked.formats)
        self._began = False
        self._about: dict[str, Any] = {"model_name": asked.call.model}
        self._counts: Mapping[str, Any] | None = None

    def received(self, headers: Mapping[str, str], *, keep: bool) -> None:
        """Takes note of the HTTP response before it is read."""
        self.opened(headers)
        if request_id := headers.get("x-request-id"):
            self._about["request_id"] = request_id
        if keep:
            self._about["headers"] = dict(headers)

    def read(self, chunk: Any) -> Iterator[Piece]:
        """Reads one chunk of a stream."""
        choices = self._choices(chunk)
        self._began = self._began or bool(choices)
        if choices and (piece := self._feed(self._reader, choices[0])):
            self.heard = True
            yield 0, piece

    def end(self) -> Iterator[Piece]:
        """Ends a stream."""
        if not self._began:
            raise self._unreadable("a stream without choices")
        if self._reader.finish_reason is None:
            raise self._explained(WireError(kind="cut", message="the stream ended before the answer did"))
        self._settle()
        if self.follow_up is None:
            yield 0, self._reader.last(self.usage, self._metadata())

    def whole(self, response: Any) -> Iterator[Piece]:
        """Reads a response that was not streamed."""
        choices = self._choices(response)
        if not choices:
            raise self._unreadable("a chat completion without choices")
        unpaid = replace(self.plan, grant=None)  # the first choice settles for all
        readers = [self._reader, *(ChoiceReader(Turn(self.asked.call, unpaid)) for _ in choices[1:])]
        pieces = [self._feed(reader, choice) for reader, choice in zip(readers, choices, strict=True)]
        self._settle()
        for index, (reader, piece) in enumerate(zip(readers, pieces, strict=True)):
            if piece is not None:
                yield index, piece
            if self.follow_up is None:
                yield index, reader.last(self.usage if index == 0 else None, self._metadata())

    def _choices(self, response: Any) -> list[Any]:
        """Returns the choices of a response or a chunk, and keeps what is said about all of it."""
        body: Any = response.to_dict(warnings=False) if isinstance(response, openai.BaseModel) else response
        if not isinstance(body, dict):
            raise self._unreadable(f"no chat completion: {_preview(body)}")
        self.check(body)
        self._about |= {ours: body[theirs] for theirs, ours in _ABOUT.items() if body.get(theirs)}
        if isinstance(body.get("usage"), Mapping):  # of a stream the last one counts: some send a running total
            self._counts = body["usage"]
        choices = body.get("choices") or []
        if not isinstance(choices, list):
            raise self._unreadable(f"choices that are no list: {_preview(choices)}")
        return choices

    def _feed(self, reader: ChoiceReader, choice: Any) -> ChatGenerationChunk | None:
        try:
            return reader.feed(choice)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._unreadable(f"a choice that can't be read: {_preview(choice)}") from error

    def _unreadable(self, what: str) -> Exception:
        return self._explained(WireError(kind="malformed", message=what))

    def _settle(self) -> None:
        """Books the answer, and finds out whether it still has to be brought into its format."""
        self.did = self.turn.finish(self._counts)
        self.usage = usage_metadata(self._counts)
        if self._before is not None:
            self._add(self._before)
        elif self.plan.think_first and not self._is_formatted():
            self.follow_up = self.asked.formatting(self.turn.text)

    def _is_formatted(self) -> bool:
        """Whether there is nothing to bring into a format: a tool is called first, what was cut can't be completed."""
        if self._reader.has_calls or self._reader.finish_reason == "length":
            return True
        return self.asked.call.response_format == JSON_OBJECT and _is_json_object(self.turn.text)

    def _add(self, first: ChatAttempt) -> None:
        """Adds what the first call did: it has thought, this one has written it down."""
        if first.usage and self.usage:
            self.usage = add_usage(first.usage, self.usage)
        both = {name: [*dict.fromkeys([*first.did[name], *self.did[name]])] for name in ("notes", "healed")}
        self.did = {**first.did, **both, "unformatted": first.turn.text}

    def _metadata(self) -> dict[str, Any]:
        return {**self._about, **self.did}


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _preview(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"
