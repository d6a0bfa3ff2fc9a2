"""One answer while it is read: every piece becomes a LlamaIndex response that holds all that has come so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ContentBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from openai import BaseModel

from qwen3_rag.errors import ResponseError, StreamError
from qwen3_rag.llama_index._llm_messages import DETAILS
from qwen3_rag.thinking import Pieces, Turn, Usage
from qwen3_rag.thinking.formatting import JSON_OBJECT
from qwen3_rag.thinking.tool_calls import CallPieces

Json = Mapping[str, Any]

_PREVIEW = 200


@dataclass(frozen=True, slots=True)
class Thought:
    """What is left of a first answer once a second call has brought it into a format.

    Attributes:
        block: Its reasoning.
        counts: Its tokens.
        metadata: What it did and why.
    """

    block: ThinkingBlock | None
    counts: Mapping[str, int | None]
    metadata: Json


@dataclass(slots=True, kw_only=True)
class Answer:
    """Reads one answer, streamed or whole.

    Attributes:
        turn: Splits reasoning from answer and settles the call's share of the session budget.
        shown: Whether the user reads a stream, so that every piece becomes a response.
        form: The format that a second call is to bring the answer into. Until the end of the answer has shown that this
            is needless, only the reasoning of it is passed on.
        thought: The first answer, if this is the second, that brings it into a format.
    """

    turn: Turn
    shown: bool = True
    form: Json | None = None
    thought: Thought | None = None
    _text: str = ""
    _reasoning: str = ""
    _calls: CallPieces = field(default_factory=CallPieces)
    _finish: str | None = None
    _usage: Json | None = None
    _counts: Mapping[str, int | None] = field(default_factory=dict)
    _metadata: Json = field(default_factory=dict)
    _logprobs: list[list[LogProb]] = field(default_factory=list)
    _raw: Any = None
    _begun: bool = False

    @property
    def silent(self) -> bool:
        """Whether the text is not passed on."""
        return self.form is not None

    def body(self, raw: Any) -> Json:
        """Returns what the SDK gave as plain JSON.

        Raises:
            ResponseError: If it is no JSON object, a web page for example.
        """
        if isinstance(raw, BaseModel):
            return raw.to_dict(warnings=False)
        raise self._unusable(f"it is no chat completion: {str(raw)[:_PREVIEW]!r}")

    def read(self, body: Json, raw: Any) -> ChatResponse | None:
        """Reads a chunk of a stream, or a whole completion.

        Args:
            body: As plain JSON.
            raw: As the SDK gave it; it goes into the response.

        Returns:
            The response so far, or `None` if there is nothing to show.

        Raises:
            ResponseError: If it can't be read.
        """
        self._raw = raw
        if isinstance(body.get("usage"), Mapping):  # of a stream the last one counts: some send a running total
            self._usage = body["usage"]
        if not body.get("choices"):
            return None
        try:
            return self._read(body["choices"][0])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._unusable(f"a choice can't be read: {str(body['choices'])[:_PREVIEW]}") from error

    def end(self) -> ChatResponse:
        """Ends the reading.

        Returns:
            The whole response, with usage and with what the call did and why.

        Raises:
            ResponseError: If there was no answer, or one that can't be used.
            StreamError: If it has no end.
        """
        pieces = self.turn.close(self._finish)
        if not self._begun:
            raise self._unusable("it has no choices")
        if self._finish is None:
            raise StreamError("the stream ended before the answer did: send it again", partial=self._partial())
        calls = self._calls.whole()
        self._check(calls)
        self._text, self._reasoning = self.turn.text, self.turn.reasoning
        if self.form is not None and (calls or self._is_formatted(self._text)):
            self.form, pieces = None, Pieces(pieces.reasoning, self._text)
        self._metadata = self.turn.finish(self._usage)
        self._counts = _counts(self._usage, self._metadata["reasoning_tokens"])
        response = self._response(pieces, calls)
        response.additional_kwargs |= self._told()
        return response

    def as_thought(self) -> Thought:
        """Returns what a second answer has to know of this one."""
        return Thought(self._thinking(), self._counts, self._metadata)

    def _read(self, choice: Json) -> ChatResponse | None:
        self._begun = True
        # Only of a stream it says that the end is there.
        self._finish = choice.get("finish_reason") or self._finish or ("stop" if "message" in choice else None)
        part = choice.get("delta") or choice.get("message") or {}
        self._logprobs.extend(_logprobs((choice.get("logprobs") or {}).get("content") or ()))
        called = self._calls.feed(part.get("tool_calls"))
        pieces = self.turn.feed({**part, "tool_calls": called})
        if not (self.shown and (pieces or called)):
            return None
        self._text += pieces.text
        self._reasoning += pieces.reasoning
        return self._response(pieces, self._calls.whole())

    def _is_formatted(self, text: str) -> bool:
        """Whether there is nothing to bring into a format; what was cut can't be completed."""
        if self._finish == "length":
            return True
        try:
            return self.form == JSON_OBJECT and isinstance(json.loads(text), dict)
        except ValueError:
            return False

    def _response(self, pieces: Pieces, calls: Sequence[Json]) -> ChatResponse:
        return ChatResponse(
            message=ChatMessage(
                role=MessageRole.ASSISTANT,
                blocks=self._blocks(calls),
                # LlamaIndex's own programs look for the calls of a stream here.
                additional_kwargs={"tool_calls": list(calls)} if calls else {},
            ),
            delta="" if self.silent else pieces.text,
            raw=self._raw,
            logprobs=[*self._logprobs] or None,
            additional_kwargs={"thinking_delta": pieces.reasoning} if pieces.reasoning else {},
        )

    def _blocks(self, calls: Sequence[Json]) -> list[ContentBlock]:
        thinking, text = self._thinking(), "" if self.silent else self._text
        blocks: list[ContentBlock] = [] if thinking is None else [thinking]
        if text or not calls:
            blocks.append(TextBlock(text=text))
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            blocks.append(ToolCallBlock(tool_call_id=call["id"], tool_name=name, tool_kwargs=arguments or "{}"))
        return blocks

    def _thinking(self) -> ThinkingBlock | None:
        earlier = self.thought.block if self.thought is not None else None
        details = self.turn.details if self._metadata else ()  # only at the end they are whole
        if not self._reasoning and not details:
            return earlier
        return ThinkingBlock(
            content=(earlier.content or "" if earlier is not None else "") + self._reasoning,
            num_tokens=self._metadata.get("reasoning_tokens"),
            additional_information={DETAILS: list(details)} if details else {},
        )

    def _told(self) -> dict[str, Any]:
        """Returns tokens and metadata, those of a first call included."""
        counts, metadata = self._counts, {**self._metadata, "finish_reason": self._finish}
        if self.thought is None:
            return {**metadata, **counts}
        first = self.thought
        both = {name: [*dict.fromkeys([*first.metadata[name], *metadata[name]])] for name in ("notes", "healed")}
        total = {name: _sum(first.counts.get(name), counts.get(name)) for name in {**first.counts, **counts}}
        return {**metadata, **both, "thinking": first.metadata["thinking"], **total}

    def _check(self, calls: Sequence[Json]) -> None:
        """A call whose arguments are cut or broken must not run: LlamaIndex would complete them, or leave them out."""
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            try:
                sound = isinstance(json.loads(arguments or "{}"), dict)
            except ValueError:
                sound = False
            if not sound:
                way = "raise max_tokens" if self._finish == "length" else "send it again"
                shown = f"{arguments[:_PREVIEW]!r}"
                raise self._unusable(f"the arguments of tool {name!r} are no JSON object, {way}: {shown}")

    def _unusable(self, reason: str) -> ResponseError:
        return ResponseError(f"the server's answer can't be used: {reason}", partial=self._partial())

    def _partial(self) -> Any:
        return self.turn.partial() or None


def _logprobs(content: Sequence[Json]) -> list[list[LogProb]]:
    tokens = ((token.get("top_logprobs") or (), token) for token in content)
    return [
        [LogProb(token=one["token"], logprob=one["logprob"], bytes=one.get("bytes") or []) for one in top or [token]]
        for top, token in tokens
    ]


def _counts(usage: Json | None, reasoning: int | None) -> dict[str, int | None]:
    counts = Usage.read(usage)
    if counts is None:
        return {}
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "reasoning_tokens": reasoning,
        "cached_tokens": counts.cached,
        "cache_creation_tokens": counts.cache_creation,
    }


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)
