"""DashScope's face: how a request is read, and every documented refusal, in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chat_server.catalogue import Served
from tests.chat_server.refusals import Refusal, invalid
from tests.chat_server.script import text_of

Body = Mapping[str, Any]

WRONG_KEY = Refusal(
    401,
    "invalid_api_key",
    "Incorrect API key provided. For details, see: https://help.aliyun.com/zh/model-studio/error-code#apikey-error",
)
NO_JSON_WORD = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
JSON_WHILE_THINKING = "Json mode response is not supported when enable_thinking is true"
FORCED_WHILE_THINKING = "The tool_choice parameter does not support being set to required or object in thinking mode"
FORCED_NEVER = 'tool_choice is one of the strings that should be ["none", "auto"]'
RESTRICTED = "The value of the enable_thinking parameter is restricted to True."
BOTH_LIMITS = "'reasoning_effort' and 'thinking_budget' cannot be set simultaneously"
UNKNOWN_PART = "Unexpected item type in content."
_PARTS = frozenset({"text", "image_url", "video_url", "video", "input_audio"})
SEARCH_TOOL = "Tool names are not allowed to be [search]"


def unknown_model(name: str) -> Refusal:
    """The 404; a name from a model hub gets another one than a name that does not exist."""
    if "/" in name:
        return Refusal(404, "model_not_supported", f"Unsupported model `{name}` for OpenAI compatibility mode.")
    message = f"The model `{name}` does not exist or you do not have access to it."
    return Refusal(404, "model_not_found", message)


def thinking(body: Body, served: Served) -> tuple[bool, int | None]:
    """Whether the request thinks, and its budget in tokens."""
    if served.thinking == "never":
        return False, None
    effort = dict(served.efforts).get(body.get("reasoning_effort"), 0)
    switch = body.get("enable_thinking")
    on = served.on if switch is None else bool(switch)
    if switch is None and effort is None:
        on = False
    if served.soft_switch and on:
        on = soft_switch(body.get("messages", ()), default=True)
    return on or served.thinking == "always", body.get("thinking_budget") or effort or None


def soft_switch(messages: Sequence[Mapping[str, Any]], *, default: bool) -> bool:
    """The last `/think` or `/no_think` of the system and user messages."""
    for one in reversed(messages):
        if one.get("role") in {"user", "system"}:
            found = re.findall(r"(?<![\w/])/(no_think|think)\b", text_of(one.get("content")))
            if found:
                return bool(found[-1] == "think")
    return default


def forced(body: Body) -> bool:
    """Whether a tool has to be called."""
    return body.get("tool_choice") not in (None, "auto", "none")


def check(body: Body, served: Served) -> Refusal | None:
    """The first thing that DashScope refuses about a request for a known model, or None."""
    rules = (
        _switches(body, served),
        _sampling(body),
        _messages(body, served),
        _tools(body, served),
        _format(body, served),
    )
    for rule in rules:
        for refusal in rule:
            return refusal
    return None


def _switches(body: Body, served: Served) -> Iterator[Refusal]:
    switch, budget, effort = body.get("enable_thinking"), body.get("thinking_budget"), body.get("reasoning_effort")
    on, _ = thinking(body, served)
    if switch is not None and served.thinking == "never":
        name = "InvalidParameter.NotSupportEnableThinking"
        yield Refusal(400, name, f"The model {body['model']} does not support enable_thinking.")
    if served.thinking == "always" and (switch is False or (served.efforts and effort == "none")):
        yield invalid(RESTRICTED)
    if budget is not None and effort is not None and served.efforts and on:
        yield invalid(BOTH_LIMITS)
    if budget is not None and served.thinking != "never":
        whole = isinstance(budget, int) and not isinstance(budget, bool)
        if not whole or not 0 < budget <= served.budget:
            limit = f"must be a positive integer and not greater than {served.budget}"
            yield invalid(f"The thinking_budget parameter {limit}", algo=True)
    if effort is not None and served.efforts and effort not in dict(served.efforts):
        names = [name for name, _ in served.efforts]
        yield invalid(f"'reasoning_effort' must be one of {names}, but got '{effort}'", algo=True)
    if not body.get("stream") and (
        served.stream == "always" or (served.stream == "thinking" and _gate_on(body, served))
    ):
        yield invalid(served.stream_text)


def _gate_on(body: Body, served: Served) -> bool:
    """The gate looks at the parameters, not at a soft switch in the text."""
    return thinking({**body, "messages": ()}, served)[0]


def _sampling(body: Body) -> Iterator[Refusal]:
    ranges = {
        "temperature": ("Temperature should be in [0.0, 2.0)", lambda v: 0 <= v < 2),
        "top_p": ("Range of top_p should be (0.0, 1.0]", lambda v: 0 < v <= 1),
        "presence_penalty": ("Presence_penalty should be in [-2.0, 2.0]", lambda v: -2 <= v <= 2),
        "seed": ("Range of seed should be [0, 9223372036854775807]", lambda v: v >= 0),
        "n": ("Range of n should be [1, 4]", lambda v: 1 <= v <= (1 if body.get("tools") else 4)),
        "max_tokens": ("Range of max_tokens should be [1, 65536]", lambda v: 1 <= v <= 65536),
    }
    for name, (message, allowed) in ranges.items():
        if body.get(name) is not None and not allowed(body[name]):
            yield invalid(message, algo=True)
    if body.get("stream_options") is not None and not body.get("stream"):
        yield invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.")


def _messages(body: Body, served: Served) -> Iterator[Refusal]:
    messages = body.get("messages")
    if not messages:
        yield invalid("[] is too short - 'messages'")
        return
    for one in messages:
        content, role = one.get("content"), one.get("role")
        if isinstance(content, list):
            parts = {str(part.get("type")) for part in content}
            if role in {"assistant", "tool"} or not served.lists:
                yield invalid("input content must be a string.", algo=True)
            elif not parts <= (_PARTS if served.images else {"text"}):
                yield invalid(UNKNOWN_PART, algo=True)
        elif content is None and not one.get("tool_calls"):
            yield invalid("input content must be a string.", algo=True)
    yield from _pairs(messages)
    if messages[-1].get("role") == "assistant" and not messages[-1].get("partial"):
        yield Refusal(500, "internal_error", "list index out of range", "internal_error")


def _pairs(messages: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """Every tool message answers a call of the assistant message before it."""
    open_ids: set[str] = set()
    for one in messages:
        if one.get("role") == "assistant":
            open_ids = {call["id"] for call in one.get("tool_calls") or ()}
        elif one.get("role") == "tool":
            if one.get("tool_call_id") not in open_ids:
                text = 'messages with role "tool" must be a response to a preceeding message with "tool_calls".'
                yield invalid(text, algo=True)
        else:
            open_ids = set()


def _tools(body: Body, served: Served) -> Iterator[Refusal]:
    names = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if "search" in names:
        yield invalid(SEARCH_TOOL, algo=True)
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            yield invalid(f"Invalid tool name: {name}", algo=True)
    if body.get("tool_choice") == "required" and served.forced == "never":
        yield invalid(FORCED_NEVER, algo=True)
    if forced(body) and served.forced != "any" and thinking(body, served)[0]:
        yield invalid(FORCED_WHILE_THINKING, algo=True)


def _format(body: Body, served: Served) -> Iterator[Refusal]:
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_object" and "json" not in " ".join(text_of(m.get("content")) for m in body["messages"]).lower():
        yield invalid(NO_JSON_WORD, algo=True)
    if kind in {"json_object", "json_schema"} and served.json == "refused" and thinking(body, served)[0]:
        yield invalid(JSON_WHILE_THINKING)


def obeys_format(body: Body, served: Served) -> bool:
    """Whether the response format takes effect: where it "may not take effect", it does not."""
    if (body.get("response_format") or {}).get("type") == "json_schema" and not served.schema:
        return False
    return served.json != "ignored" or not thinking(body, served)[0]
