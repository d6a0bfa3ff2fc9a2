"""From what a server says when it refuses to one typed error. Pure functions.

Sources: DashScope's error codes (https://help.aliyun.com/zh/model-studio/error-code), vLLM's and llama.cpp's OpenAI-like
errors, text-embeddings-inference's `router/src/lib.rs`, FastAPI's `detail`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from qwen3_rag.errors import (
    RemoteAuthenticationError,
    RemoteError,
    RemoteInputTooLongError,
    RemoteModerationError,
    RemoteQuotaError,
    RemoteRateLimitError,
    RemoteRequestError,
    RemoteServerError,
)
from qwen3_rag.remote.retry import retry_after

_EXCERPT = 400
_QUOTA = re.compile(
    r"arrear|overdue|free.?tier.?only|free allocated quota|balance.{0,20}insufficient|insufficient balance", re.I
)
_MODERATION = re.compile(r"data_?inspection|role_?blocked|rule_?blocked|ip_?infringement|inappropriate content", re.I)
_TOO_LONG = re.compile(
    r"range of input length|maximum (?:context|input|model) length|maximum context|too (?:long|large)|context length"
    r"|must have less than \d+ tokens|batch size|exceed\w*.{0,40}(?:tokens?|length|limit)|longer than the maximum",
    re.I,
)
_TAGS = re.compile(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", re.I | re.S)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says, whoever wrote it.

    Attributes:
        message: The text for people.
        code: The vendor's code or type, or an empty string.
        request_id: The vendor's identifier of the request, if it gave one.
    """

    message: str
    code: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which error an answer is, if its status is one of these and its text has this pattern.

    Attributes:
        kind: The error.
        advice: Follows the server's name; `{said}` is what the server said.
        statuses: HTTP statuses; `None` is any.
        pattern: Looked for in code and message; `None` is any text.
    """

    kind: type[RemoteError]
    advice: str
    statuses: Container[int] | None = None
    pattern: re.Pattern[str] | None = None

    def fits(self, status: int, said: str) -> bool:
        return (self.statuses is None or status in self.statuses) and (
            not self.pattern or bool(self.pattern.search(said))
        )


_NO_QUOTA = "has no quota left for this account: {said}. Settle the account or take another model"
_LESS = "takes less at once: {said}. Set max_tokens= or rows= to its limits"
_RULES = (
    _Rule(RemoteQuotaError, _NO_QUOTA, {402}),
    _Rule(RemoteQuotaError, _NO_QUOTA, pattern=_QUOTA),
    _Rule(
        RemoteModerationError,
        "refuses a text by its content inspection: {said}. Take the text out",
        pattern=_MODERATION,
    ),
    _Rule(
        RemoteAuthenticationError,
        "does not accept the key: {said}. Check key, region, workspace and model access",
        {401, 403},
    ),
    _Rule(RemoteRateLimitError, "limits the rate: {said}. Set rate_limit= or a lower concurrency=", {429}),
    _Rule(RemoteInputTooLongError, _LESS, {413}),
    _Rule(RemoteInputTooLongError, _LESS, {400, 422, 500}, _TOO_LONG),
    _Rule(RemoteServerError, "failed: {said}", {408, 409, 425, *range(500, 600)}),
    _Rule(
        RemoteRequestError,
        "does not know the model or the address: {said}. Check model, base_url and region",
        {404},
    ),
)
_ANY_OTHER = _Rule(RemoteRequestError, "refuses the request: {said}")


def read_complaint(body: bytes) -> Complaint:
    """Reads an error body of any known shape; what is no JSON is quoted without its tags."""
    text = body[: 64 * _EXCERPT].decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except ValueError:
        return Complaint(_short(_TAGS.sub(" ", text)))
    return complaint_of(data) or Complaint(_short(text))


def complaint_of(data: Any) -> Complaint | None:
    """Finds the complaint in a decoded body; `None` if it holds none, as a good answer does."""
    if not isinstance(data, Mapping):
        return None
    inner = data.get("error") or data.get("detail")
    fields: Mapping[str, Any] = inner if isinstance(inner, Mapping) else data
    message = inner if isinstance(inner, str) else fields.get("message")
    if not message and inner and not isinstance(inner, Mapping):
        message = json.dumps(inner, ensure_ascii=False)  # FastAPI lists what is wrong with each field
    code = _first(fields, "code", "type") or _first(data, "error_type")
    if not message and not (code and inner):
        return None
    identifier = _first(data, "request_id", "id") or None
    return Complaint(_short(str(message or code)), code, identifier)


def to_error(
    status: int, headers: Mapping[str, str], body: bytes, *, server: str, secret: str | None = None
) -> RemoteError:
    """Builds the error for an answer that is not a success.

    Args:
        status: The HTTP status.
        headers: The answer's headers.
        body: Its body, perhaps only the beginning.
        server: How the message calls the server.
        secret: The key that was sent; it never gets into the message.
    """
    complaint = read_complaint(body.replace(secret.encode(), b"***") if secret else body)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        target = headers.get("location", "somewhere else")
        complaint = Complaint(
            f"it redirects to {target}, and a key is not sent after it: set base_url to the final address"
        )
    said = f"{complaint.code} {complaint.message}"
    rule = next((rule for rule in _RULES if rule.fits(status, said)), _ANY_OTHER)
    identifier = complaint.request_id or headers.get("x-request-id") or headers.get("x-dashscope-request-id")
    return rule.kind(
        redact(f"{server} {rule.advice.format(said=complaint.message or 'no reason given')}", secret),
        status=status,
        code=complaint.code,
        request_id=identifier,
        retry_after=retry_after(headers),
    )


def redact(text: str, secret: str | None) -> str:
    """Removes a key from a text, since servers like to quote what they refuse."""
    return text.replace(secret, "***") if secret else text


def _first(fields: Mapping[str, Any], *names: str) -> str:
    return next((str(fields[name]) for name in names if isinstance(fields.get(name), (str, int)) and fields[name]), "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
