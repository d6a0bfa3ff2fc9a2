"""What went wrong on the wire, as this package's errors: what the server said, what to do about it, never the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from qwen3_rag.errors import (
    AccessDeniedError,
    ArrearsError,
    AuthenticationError,
    ChatError,
    ContextOverflowError,
    InvalidRequestError,
    ModerationError,
    Partial,
    QuotaError,
    RateLimitError,
    ResponseError,
    ServerConnectionError,
    ServerError,
    ServerTimeoutError,
    StreamError,
    UnknownModelError,
)
from qwen3_rag.thinking.endpoints import Endpoint
from qwen3_rag.thinking.wire import Kind, WireError, host_of


@dataclass(frozen=True, slots=True)
class _Case:
    """One kind of failure: found by the server's code, by its words, or by the HTTP status."""

    error: type[ChatError]
    way_out: str
    codes: tuple[str, ...] = ()
    words: re.Pattern[str] | None = None
    statuses: tuple[int, ...] = ()

    def fits(self, error: WireError) -> bool:
        return (
            any(error.code == code or error.code.endswith(f".{code}") for code in self.codes)
            or bool(self.words and self.words.search(error.message))
            or error.status in self.statuses
        )


def _words(*texts: str) -> re.Pattern[str]:
    return re.compile("|".join(texts), re.IGNORECASE)


# Source: https://help.aliyun.com/zh/model-studio/error-code, https://api-docs.deepseek.com/quick_start/error_codes,
# https://openrouter.ai/docs/api-reference/errors and the servers' sources. The first that fits is taken, so what is
# told by words comes before what shares its status with other things.
_CASES: Final = (
    _Case(
        ContextOverflowError,
        "shorten the prompt or the history, or take a model with a longer context",
        ("context_length_exceeded", "exceed_context_size_error"),
        _words(
            r"Range of input length should be",  # DashScope
            r"maximum context length",  # vLLM, SGLang, DeepSeek, OpenRouter
            r"longer than the maximum model length",  # vLLM
            r"longer than the model's context length",  # SGLang
            r"exceeds the available context size",  # llama.cpp
            r"greater than the context length",  # LM Studio
            r"loaded with context length of only",  # LM Studio
            r"`inputs` (tokens \+ `max_new_tokens` )?must (be <=|have less than)",  # TGI
        ),
    ),
    _Case(
        ModerationError,
        "change the text: the same one will be stopped again",
        (
            "data_inspection_failed",
            "DataInspectionFailed",
            "CustomRoleBlocked",
            "FaqRuleBlocked",
            "IPInfringementSuspect",
            "content_filter",
        ),
        _words(r"inappropriate content", r"Content Exists Risk"),
    ),
    _Case(
        QuotaError,
        "the free quota is used up for good: switch off 'free tier only' in the console, or take another model",
        ("FreeTierOnly",),
        _words(r"Free allocated quota exceeded", r"free tier of the model has been exhausted"),
    ),
    _Case(
        ArrearsError,
        "pay the account's bill or buy credits, then send it again",
        ("Arrearage",),
        _words(r"account is in good standing", r"Insufficient (Balance|credits)"),
        (402,),
    ),
    _Case(
        AuthenticationError,
        "check that the key belongs to {host}: a key of another region, workspace or vendor is refused like a wrong one",
        ("invalid_api_key", "InvalidApiKey"),
        statuses=(401,),
    ),
    _Case(
        UnknownModelError,
        "check the name: each server has its own (DashScope qwen3-8b, OpenRouter qwen/qwen3-8b, Ollama qwen3:8b, vLLM "
        "the one that it was started with), and GET /models lists them",
        ("model_not_found", "model_not_supported", "ModelNotFound"),
        _words(
            r"Unsupported model",
            r"Model Not Exist",
            r"model\b.{1,100}\b(not found|does not exist)",
            r"not a valid model ID",
            r"No endpoints found for",
        ),
    ),
    _Case(
        AccessDeniedError,
        "give the key's workspace access to the model in the console, or use a key that has it",
        ("access_denied", "AccessDenied", "AccessDenied.Unpurchased"),
        statuses=(403,),
    ),
    _Case(
        RateLimitError,
        "wait and send it again; DashScope's limits are per account and model and recover within a minute",
        ("limit_requests", "limit_burst_rate", "insufficient_quota", "Throttling", "RateQuota", "AllocationQuota"),
        statuses=(429,),
    ),
    _Case(
        ServerTimeoutError,
        "stream the answer, limit the thinking, or send it again",
        ("RequestTimeOut",),
        statuses=(408, 504),
    ),
    _Case(
        ServerError,
        "send it again later",
        ("internal_error", "InternalError", "InternalError.Algo", "ModelServingError", "ModelUnavailable"),
        statuses=tuple(range(500, 600)),
    ),
)
_INVALID: Final = _Case(InvalidRequestError, "change what the server names")
_BY_KIND: Final[Mapping[Kind, _Case]] = {
    "timeout": _Case(ServerTimeoutError, "raise the timeout, or stream: thinking can take minutes"),
    "connection": _Case(ServerConnectionError, "check base_url, the network and the proxy settings"),
    "cut": _Case(StreamError, "send it again"),
    "malformed": _Case(ResponseError, "check that base_url is an OpenAI-compatible chat server"),
    "event": _Case(StreamError, "send it again"),
}
# More exact ways out for single messages.
_WAYS_OUT: Final = (
    (_words(r"list index out of range"), "the last message must be the user's or a tool's"),
    (_words(r"must contain the word 'json'"), "ask for JSON in the prompt, by that word"),
    (_words(r"404 page not found", r"^Not Found$"), "check base_url, its path usually ends in /v1"),
)
# Where "insufficient_quota" is a limit per minute, unlike at OpenAI, whose word it is.
_QUOTA_IS_A_RATE: Final = frozenset({"dashscope", "modelscope", "siliconflow"})
_SECRET: Final = re.compile(r"\b(sk-[A-Za-z0-9-]{0,6})[A-Za-z0-9_-]{8,}")
_LONGEST: Final = 1000


def to_error(
    error: Exception | WireError,
    *,
    endpoint: Endpoint,
    model: str,
    partial: Partial | None = None,
    request_id: str | None = None,
    classes: Mapping[type[ChatError], type[ChatError]] | None = None,
) -> ChatError:
    """Turns what the SDK raised into this package's error; raise it `from` its own `__cause__`.

    The cause is the SDK's exception, unless that would show the key.

    Args:
        error: What was raised while a call was sent or its answer read. What is no failure of the wire is taken for an
            answer that could not be read.
        endpoint: Where it was sent.
        model: What was asked.
        partial: What of the answer had arrived.
        request_id: The server's name for the request, where the error itself does not say it.
        classes: A framework's own subclasses of our errors, to be raised instead of them.

    Returns:
        The error; one that is a `ChatError` already comes back as it is.
    """
    if isinstance(error, ChatError):
        return error
    wire = error if isinstance(error, WireError) else _read(error)
    wire = replace(wire, request_id=wire.request_id or request_id)
    if partial and wire.kind in ("timeout", "connection"):
        wire = replace(wire, kind="cut")  # since openai 3 the SDK names what breaks a stream like what prevents it
    case = _case(wire, endpoint)
    kind = (classes or {}).get(case.error, case.error)
    message = _message(wire, case, endpoint, model, partial)
    ours = kind(
        redacted(message, endpoint),
        status=wire.status,
        code=wire.code,
        request_id=wire.request_id,
        retry_after=wire.retry_after,
        partial=partial,
    )
    if isinstance(error, Exception):
        shown = f"{error} {error.__cause__}"
        ours.__cause__ = error if redacted(shown, endpoint) == shown else None
    return ours


def _read(error: Exception) -> WireError:
    return WireError.of(error) or WireError(kind="malformed", message=f"{type(error).__name__}: {error}")


def _case(error: WireError, endpoint: Endpoint) -> _Case:
    if error.kind not in ("status", "event"):
        return _BY_KIND[error.kind]
    case = next((case for case in _CASES if case.fits(error)), _INVALID)
    if error.kind == "event" and (case is _INVALID or case.error in (ServerError, ServerTimeoutError)):
        return _BY_KIND["event"]
    if error.code == "insufficient_quota" and endpoint.dialect.name not in _QUOTA_IS_A_RATE:
        return _Case(QuotaError, "buy credits, or raise the account's limit")
    return case


def _message(error: WireError, case: _Case, endpoint: Endpoint, model: str, partial: Partial | None) -> str:
    host = host_of(endpoint.base_url)
    said = error.message.strip() or "no message"
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}… ({len(said) - _LONGEST} more characters)"
    facts = [f"HTTP {error.status}" if error.status else "", error.code, f"request id {error.request_id}"]
    named = ", ".join(fact for fact in facts[: 3 if error.request_id else 2] if fact)
    way_out = next((way for words, way in _WAYS_OUT if words.search(error.message)), case.way_out).format(host=host)
    arrived = _arrived(partial) if partial else ""
    return f"{model} on {host}: {said}{f' ({named})' if named else ''}{arrived}. Way out: {way_out}"


def _arrived(partial: Partial) -> str:
    counts = [
        (len(partial.reasoning), "characters of reasoning"),
        (len(partial.text), "of the answer"),
        (len(partial.tool_calls), "tool calls"),
    ]
    return "; had arrived: " + ", ".join(f"{count} {what}" for count, what in counts if count)


def redacted(text: str, endpoint: Endpoint) -> str:
    """Returns a text without the endpoint's key, or what looks like one."""
    key = endpoint.api_key.get_secret_value()
    if key and key != "EMPTY":
        text = text.replace(key, "***")
    return _SECRET.sub(r"\1***", text)
