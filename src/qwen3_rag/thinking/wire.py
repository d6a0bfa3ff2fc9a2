"""What a server, or the way to it, said went wrong: read once, whatever SDK raised it and however the body is built."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

Kind: TypeAlias = Literal["status", "event", "timeout", "connection", "cut", "malformed"]

# By name, for this room knows neither the SDK nor its HTTP library (which may be `httpx` or `httpx2`).
_KINDS: Final[Mapping[str, Kind]] = {
    "APIResponseValidationError": "malformed",
    "APIStatusError": "status",
    "APITimeoutError": "timeout",
    "APIConnectionError": "connection",
    "APIError": "event",
    "HTTPError": "cut",
    "JSONDecodeError": "malformed",
    "UnicodeDecodeError": "malformed",
}
_HOMES: Final = frozenset({"openai", "httpx", "httpx2", "httpcore", "httpcore2", "json", "builtins"})
_HTTP_ERRORS: Final = range(400, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireError:
    """One failure of a call.

    Attributes:
        kind: `status`: an HTTP status said so. `event`: an event inside the stream did. `timeout`, `connection`: no answer
            came. `cut`: the stream broke off. `malformed`: what came can't be read.
        message: The server's words, or the library's where the server said nothing.
        status: HTTP status; of an event, the one that its body names.
        code: The server's error code, its error type where the code is only the status again, or an empty string.
        request_id: The server's name for the request.
        body: The error object as it came.
        retry_after: Seconds to wait, from `Retry-After`.
    """

    kind: Kind
    message: str
    status: int | None = None
    code: str = ""
    request_id: str | None = None
    body: Any = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self | None:
        """Reads an exception of the `openai` SDK, or of httpx or the JSON parser where the SDK lets them through.

        Returns:
            `None` if it is no failure of the wire.
        """
        kind = _kind(error)
        if kind is None:
            return None
        if kind in ("timeout", "connection", "cut", "malformed"):
            return cls(kind=kind, message=_reason(error), status=getattr(error, "status_code", None))
        response = getattr(error, "response", None)
        body = getattr(error, "body", None)
        code, message = _said(body)
        headers: Mapping[str, str] = getattr(response, "headers", {})
        return cls(
            kind=kind,
            message=message or _reason(error),
            status=getattr(error, "status_code", None) or _status_in(body),
            code=code,
            request_id=getattr(error, "request_id", None) or _request_id(body) or _request_id(_json(response)),
            body=body,
            retry_after=_seconds(headers),
        )

    @classmethod
    def in_body(cls, body: Any) -> Self | None:
        """Reads the error that some servers send with status 200 instead of an answer, or as one chunk of a stream.

        OpenRouter has it under `error`, ModelScope under `errors`, vLLM before 0.10 and SGLang have nothing around it.

        Returns:
            `None` if the body holds no error.
        """
        if not isinstance(body, Mapping) or body.get("choices"):
            return None
        flat = "choices" not in body and "message" in body
        if not (flat or body.get("error") or body.get("errors")):
            return None
        code, message = _said(body)
        return cls(
            kind="status",
            message=message,
            status=_status_in(body),
            code=code,
            request_id=_request_id(body),
            body=body,
        )


def host_of(base_url: str) -> str:
    """Returns host and port of a URL, to be shown: no name and password that it may hold."""
    return urlsplit(base_url).netloc.rpartition("@")[2] or base_url


def _kind(error: BaseException) -> Kind | None:
    for base in type(error).__mro__:
        if base.__module__.partition(".")[0] in _HOMES and base.__name__ in _KINDS:
            return _KINDS[base.__name__]
    return None


def _reason(error: BaseException) -> str:
    """The SDK's "Connection error." hides its cause, which says what happened."""
    cause = error.__cause__
    texts = (f"{type(each).__name__}: {each}" if str(each) else type(each).__name__ for each in (error, cause) if each)
    return " - ".join(texts)


def _said(body: Any) -> tuple[str, str]:
    """Returns the code and the words of an error body; every server builds it in its own way."""
    found = list(_levels(body))
    codes = [str(value) for level in found for key in ("code", "type", "error_type") if (value := level.get(key))]
    code = next((code for code in codes if not code.isdigit()), "")
    words = [body] if isinstance(body, str) else [text for level in found for text in _words(level)]
    return code, " - ".join(dict.fromkeys(words))


def _levels(body: Any) -> Iterator[Mapping[str, Any]]:
    """The objects that may hold the words, outer ones first: `{"error": {…}}`, `{"errors": {…}}`, `{"metadata": {…}}`."""
    if not isinstance(body, Mapping):
        return
    yield body
    for key in ("error", "errors", "metadata"):
        yield from _levels(body.get(key))


def _words(level: Mapping[str, Any]) -> Iterator[str]:
    # OpenRouter's `raw` is what the provider behind it said; FastAPI's `detail` may be a list.
    for key in ("message", "error", "detail", "raw"):
        value = level.get(key)
        if isinstance(value, str) and value:
            yield value
        elif key in ("detail", "raw") and value:
            yield json.dumps(value, ensure_ascii=False, default=str)


def _status_in(body: Any) -> int | None:
    for level in _levels(body):
        code = level.get("code")
        if isinstance(code, int) and code in _HTTP_ERRORS:
            return code
    return None


def _request_id(body: Any) -> str | None:
    found = (level.get("request_id") for level in _levels(body))
    return next((value for value in found if isinstance(value, str) and value), None)


def _json(response: Any) -> Any:
    """The SDK keeps only the body's `error`; DashScope's `request_id` lies beside it."""
    try:
        return response.json() if response is not None else None
    except (ValueError, RuntimeError):  # no JSON, or a body that was never read
        return None


def _seconds(headers: Mapping[str, str]) -> float | None:
    """Reads `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3), and OpenAI's `retry-after-ms`."""
    value = headers.get("retry-after", "")
    for text, scale in ((headers.get("retry-after-ms", ""), 1e-3), (value, 1.0)):
        with suppress(ValueError):
            seconds = float(text) * scale
            if math.isfinite(seconds):
                return max(0.0, seconds)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
