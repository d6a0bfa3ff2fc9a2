"""How an answer is written as messages, deltas, chunks and usage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.chat_server.catalogue import Served
from tests.chat_server.script import Answer, ToolCall, text_of, tokens

_IMAGE_TOKENS = 256
_IMPLICIT_CACHE, _EXPLICIT_CACHE = 256, 1024  # the least tokens that are cached


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How a server spells what comes out.

    Attributes:
        field: Where reasoning stands; "inline" is in the content, between tags.
        details: OpenRouter's `reasoning_details` come along.
        nulls: Deltas have both fields, the one that is not meant is null; and continuations of tool calls have an
            empty id and no name (DashScope).
        whole_calls: A tool call comes in one delta.
    """

    field: Literal["reasoning_content", "reasoning", "inline"] = "reasoning_content"
    details: bool = False
    nulls: bool = False
    whole_calls: bool = False


def inline(answer: Answer, *, lone: bool, empty: bool = False) -> Answer:
    """The answer as raw text: `lone` where the template already wrote `<think>`, `empty` for a block without thoughts."""
    if answer.reasoning or empty:
        opening = "" if lone and answer.reasoning else "<think>\n"
        closing = "" if answer.finish == "length" and not answer.text else "\n</think>\n\n"
        return replace(answer, reasoning="", text=f"{opening}{answer.reasoning}{closing}{answer.text}")
    return answer


def _detail(text: str) -> list[dict[str, Any]]:
    return [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def message(answer: Answer, spelling: Spelling) -> dict[str, Any]:
    """The message of an answer that is not streamed."""
    out: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if spelling.field != "inline" and answer.reasoning:
        out[spelling.field] = answer.reasoning
        if spelling.details:
            out["reasoning_details"] = _detail(answer.reasoning)
    if answer.calls:
        out["tool_calls"] = [{**_tool_call(c), "index": i} for i, c in enumerate(answer.calls)]
    return out


def deltas(answer: Answer, spelling: Spelling) -> Iterator[dict[str, Any]]:
    """The deltas of a streamed answer: role, reasoning, content, tool calls; the last one is empty."""
    field = None if spelling.field == "inline" else spelling.field
    start: dict[str, Any] = {"role": "assistant", "content": ""}
    if field and spelling.nulls and answer.reasoning:
        start[field] = ""
    yield start
    for piece in tokens(answer.reasoning) if field else ():
        out: dict[str, Any] = {"content": None} if spelling.nulls else {}
        out[str(field)] = piece
        if spelling.details:
            out |= {"content": "", "reasoning_details": _detail(piece)}
        yield out
    for piece in tokens(answer.text):
        yield {"content": piece, field: None} if spelling.nulls and field else {"content": piece}
    for index, call in enumerate(answer.calls):
        yield from _call_deltas(call, index, spelling)
    yield {"content": ""} | ({field: None} if spelling.nulls and field else {})


def _call_deltas(call: ToolCall, index: int, spelling: Spelling) -> Iterator[dict[str, Any]]:
    if spelling.whole_calls:
        yield {"content": "", "tool_calls": [{**_tool_call(call), "index": index}]}
        return
    # Arguments with arrays or objects come in one piece (DashScope without `tool_stream`).
    nested = any(mark in call.arguments[1:] for mark in "[{")
    third = max(len(call.arguments) // 3, 1) if not nested else max(len(call.arguments), 1)
    pieces = [call.arguments[i : i + third] for i in range(0, len(call.arguments), third)]
    first = {**_tool_call(call), "index": index, "function": {"name": call.name, "arguments": ""}}
    yield {"content": None, "tool_calls": [first]} if spelling.nulls else {"tool_calls": [first]}
    for piece in pieces:
        if spelling.nulls:
            function = {"name": None, "arguments": piece}
            yield {
                "content": None,
                "tool_calls": [{"index": index, "id": "", "type": "function", "function": function}],
            }
        else:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that deltas add up to, for a scripted stream that is asked for whole."""
    out: dict[str, Any] = {"role": "assistant"}
    calls: dict[int, dict[str, Any]] = {}
    for part in parts:
        for key, value in part.items():
            if key == "tool_calls":
                for call in value or ():
                    _merge_call(calls.setdefault(call.get("index", 0), {}), call)
            elif key != "role" and value is not None:
                out[key] = out[key] + value if key in out else value
    if calls:
        out["tool_calls"] = [calls[i] for i in sorted(calls)]
    return {"content": None, **out}


def _merge_call(out: dict[str, Any], call: Mapping[str, Any]) -> None:
    function = out.setdefault("function", {"name": None, "arguments": ""})
    function["name"] = function["name"] or call["function"].get("name")
    function["arguments"] += call["function"].get("arguments") or ""
    out["id"] = out.get("id") or call.get("id")
    out["type"] = "function"


def split(whole: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The deltas of a scripted whole message, for a call that is streamed."""
    yield {"role": "assistant", "content": ""}
    for key in ("reasoning_content", "reasoning", "content"):
        for piece in tokens(whole.get(key) or ""):
            yield {key: piece}
    for index, call in enumerate(whole.get("tool_calls") or ()):
        yield {"tool_calls": [{"index": index, **call}]}
    rest = {
        k: v for k, v in whole.items() if k not in {"role", "content", "reasoning_content", "reasoning", "tool_calls"}
    }
    if rest:
        yield rest


def count_prompt(messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Tokens of a prompt: text (with reasoning and tool calls that are given back), and images."""
    text = images = 0
    for one in messages:
        text += 4 + len(tokens(text_of(one.get("content"))))
        text += len(tokens(str(one.get("reasoning_content") or one.get("reasoning") or "")))
        text += sum(len(tokens(str(c["function"]))) for c in one.get("tool_calls") or ())
        if isinstance(one.get("content"), list):
            images += sum(_IMAGE_TOKENS for p in one["content"] if "image" in str(p.get("type")))
    return text, images


class PromptCache:
    """Which prefixes were seen: implicit by whole messages, explicit up to a part with `cache_control`."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def look(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int, bool]:
        """Returns the tokens read from the cache, the tokens written, and whether the request marks them itself."""
        marks = [
            (i, j)
            for i, one in enumerate(messages)
            for j, part in enumerate(one["content"] if isinstance(one.get("content"), list) else ())
            if isinstance(part, Mapping) and part.get("cache_control")
        ]
        prefixes = [[*messages[:i], {**messages[i], "content": messages[i]["content"][: j + 1]}] for i, j in marks]
        least = _EXPLICIT_CACHE if marks else _IMPLICIT_CACHE
        if not marks:
            prefixes = [list(messages[: i + 1]) for i in range(len(messages))]
        read = written = 0
        for prefix in prefixes:
            size = sum(count_prompt(prefix))
            key = json.dumps([bool(marks), prefix], sort_keys=True)
            if size < least:
                continue
            if key in self._seen:
                read = max(read, size)
            else:
                written = max(written, size)
                self._seen.add(key)
        return read, max(written - read, 0) if marks else 0, bool(marks)


def usage(
    answers: Sequence[Answer], messages: Sequence[Mapping[str, Any]], served: Served, cache: tuple[int, int, bool]
) -> dict[str, Any]:
    """DashScope's usage; how much of the details is filled in depends on the model."""
    text, images = count_prompt(messages)
    reasoning = sum(len(tokens(a.reasoning)) for a in answers)
    out = sum(len(tokens(a.text)) + sum(len(tokens(c.name + c.arguments)) for c in a.calls) for a in answers)
    read, written, explicit = cache
    result: dict[str, Any] = {
        "prompt_tokens": text + images,
        "completion_tokens": reasoning + out,
        "total_tokens": text + images + reasoning + out,
    }
    if served.details == "null" and not read and not explicit:
        return {**result, "completion_tokens_details": None, "prompt_tokens_details": None}
    result["completion_tokens_details"] = {"reasoning_tokens": reasoning} if reasoning else None
    result["prompt_tokens_details"] = {"cached_tokens": read}
    if served.details == "full":
        result["completion_tokens_details"] = {
            "audio_tokens": None,
            "reasoning_tokens": reasoning,
            "text_tokens": out,
        }
        result["prompt_tokens_details"] = {
            "audio_tokens": None,
            "cached_tokens": read,
            "image_tokens": images or None,
            "text_tokens": text,
            "video_tokens": None,
        }
    if explicit:
        result["prompt_tokens_details"] |= {
            "cache_creation": {"ephemeral_5m_input_tokens": written},
            "cache_creation_input_tokens": written,
            "cache_type": "ephemeral",
        }
    return result
