"""From the choices of a response to LangChain's chunks and messages; a whole answer is read as a stream of one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from qwen3_rag.langchain._chat_blocks import DETAILS_KEY, PROVIDER, REASONING_KEY
from qwen3_rag.thinking import Turn, Usage
from qwen3_rag.thinking.tool_calls import CallPieces


class ChoiceReader:
    """Reads one choice of a response.

    Args:
        turn: What tells reasoning from answer, and keeps both.
        hold: Whether to keep the text of the answer back, as a second call will bring it into its format.

    Attributes:
        turn: As given.
        finish_reason: The server's, once it came.
        has_calls: Whether the model called a tool.
    """

    def __init__(self, turn: Turn, *, hold: bool = False) -> None:
        self.turn = turn
        self.finish_reason: str | None = None
        self.has_calls = False
        self._closed = False
        self._hold = hold
        self._calls = CallPieces()

    def feed(self, choice: Mapping[str, Any]) -> ChatGenerationChunk | None:
        """Reads a piece of the choice, or the whole of it; `None` if there is nothing in it to pass on."""
        delta = choice.get("delta") or choice.get("message") or {}
        calls = self._calls.feed(delta.get("tool_calls"))
        pieces = [self.turn.feed({**delta, "tool_calls": calls})]
        if not self._closed and (choice.get("finish_reason") or "message" in choice):
            self._closed = True
            self.finish_reason = choice.get("finish_reason")
            pieces.append(self.turn.close(self.finish_reason))
        self.has_calls = self.has_calls or bool(calls)
        kept = {REASONING_KEY: "".join(piece.reasoning for piece in pieces), "refusal": delta.get("refusal")}
        text = "" if self._hold else "".join(piece.text for piece in pieces)
        return _chunk(text, {name: value for name, value in kept.items() if value}, calls, choice.get("logprobs"))

    def last(self, usage: UsageMetadata | None, metadata: Mapping[str, Any]) -> ChatGenerationChunk:
        """Returns what ends the choice: what was held back, counts and metadata."""
        message = AIMessageChunk(
            content=self.turn.text if self._hold else "",
            additional_kwargs={DETAILS_KEY: list(self.turn.details)} if self.turn.details else {},
            usage_metadata=usage,
            response_metadata={"model_provider": PROVIDER, "finish_reason": self.finish_reason, **metadata},
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)


def _chunk(
    text: str, kept: dict[str, Any], calls: Sequence[Mapping[str, Any]], logprobs: Any
) -> ChatGenerationChunk | None:
    if not (text or kept or calls or logprobs):
        return None
    message = AIMessageChunk(
        content=text,
        additional_kwargs=kept,
        tool_call_chunks=[
            tool_call_chunk(
                name=call["function"]["name"],
                args=call["function"]["arguments"],
                id=call["id"],
                index=call["index"],
            )
            for call in calls
        ],
        response_metadata={"model_provider": PROVIDER},
    )
    return ChatGenerationChunk(message=message, generation_info={"logprobs": logprobs} if logprobs else None)


def gather(chunks: Sequence[ChatGenerationChunk]) -> ChatGeneration:
    """Adds up the chunks of a choice.

    Arguments of a tool that are no JSON are an invalid call. (LangChain completes what was cut when it adds chunks up.)
    """
    whole = merge_chat_generation_chunks(list(chunks))
    if whole is None or not isinstance(whole.message, AIMessageChunk):
        raise TypeError("an answer has at least its last chunk")
    chunk = whole.message
    message = cast("AIMessage", message_chunk_to_message(chunk))
    message.tool_calls, message.invalid_tool_calls = [], []
    for piece in chunk.tool_call_chunks:
        raw = {"id": piece["id"], "function": {"name": piece["name"] or "", "arguments": piece["args"]}}
        try:
            call = parse_tool_call(raw)
        except OutputParserException as error:
            message.invalid_tool_calls.append(make_invalid_tool_call(raw, str(error)))
            continue
        if call is None or not isinstance(call["args"], dict):
            message.invalid_tool_calls.append(make_invalid_tool_call(raw, "the arguments are no JSON object"))
        else:
            message.tool_calls.append(cast("Any", call))
    info = {**(whole.generation_info or {}), "finish_reason": message.response_metadata.get("finish_reason")}
    return ChatGeneration(message=message, generation_info=info)


def usage_metadata(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    """Returns the token counts of a response under LangChain's names; reasoning only where the server gives it."""
    counts = Usage.read(usage)
    if counts is None:
        return None
    metadata = UsageMetadata(
        input_tokens=counts.input,
        output_tokens=counts.output,
        total_tokens=counts.input + counts.output,
        input_token_details=InputTokenDetails(cache_read=counts.cached, cache_creation=counts.cache_creation),
    )
    if counts.reasoning is not None:
        metadata["output_token_details"] = OutputTokenDetails(reasoning=counts.reasoning)
    return metadata
