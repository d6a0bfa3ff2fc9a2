"""Everything a server can do wrong, and what must come of it: success, or one typed error.

A case is a list of answers: to the first request, to the second, and the last one to all that follow. `None` is a right
answer.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from qwen3_rag import errors
from tests.remote_server.loopback import Received, Reply

KEY = "sk-secret-0123456789abcdef"
WIDTH = 8
TEXTS = ["alpha", "beta", "gamma", "delta"]

Answer = Callable[[Received], Reply] | Reply | None


def vector(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    values = [byte / 255 - 0.5 for byte in digest[:WIDTH]]
    norm = math.sqrt(sum(v * v for v in values))
    return [v / norm for v in values]


def rows(received: Received) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": i, "embedding": vector(t)} for i, t in enumerate(received.body["input"])]


def right(received: Received) -> Reply:
    return Reply({"object": "list", "data": rows(received), "usage": {"total_tokens": 4}})


class Script:
    """An app that plays a case's answers and remembers which texts it answered rightly."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.answers = list(answers)
        self._guard = threading.Lock()
        self._played = 0

    def __call__(self, received: Received) -> Reply:
        with self._guard:
            answer = self.answers[min(self._played, len(self.answers) - 1)]
            self._played += 1
        if answer is None:
            return right(received)
        return answer if isinstance(answer, Reply) else answer(received)


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: What happens.
        answers: What the server does.
        error: What must be raised; `None` is success with all vectors in order.
        requests: How many requests there must be; `None` if that does not matter.
        at_least: Seconds that it must take, for the server asked for them.
        within: Seconds that it may take.
        says: What the message must contain.
    """

    name: str
    answers: Sequence[Answer]
    error: type[Exception] | None = None
    requests: int | None = None
    at_least: float = 0.0
    within: float = 1.5
    says: str = ""


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> Answer:
    """A right answer after a change."""

    def answer(received: Received) -> Reply:
        data = rows(received)
        found = change(data)
        return Reply({"data": data if found is None else found})

    return answer


def value(replacement: Any) -> Answer:
    """A right answer but for the first number of the second vector."""

    def change(data: list[dict[str, Any]]) -> None:
        data[1]["embedding"][0] = replacement

    return changed(change)


def status(code: int, body: Any = None, **headers: str) -> Reply:
    return Reply(body if body is not None else {"error": {"message": f"status {code}"}}, code, headers)


def raw(content: bytes, code: int = 200, **headers: str) -> Reply:
    return Reply(status=code, raw=content, headers=headers)


def on_socket(*pieces: bytes, every: float = 0.0, then: float = 0.0) -> Reply:
    """Writes bytes to the socket, slowly if asked to, and hangs up."""

    def write(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(every)
        time.sleep(then)

    return Reply(write=write)


def refuse_more_than(most: int, reply: Reply) -> Answer:
    return lambda received: right(received) if len(received.body["input"]) <= most else reply


def refuse_text(text: str, reply: Reply) -> Answer:
    return lambda received: reply if text in received.body["input"] else right(received)


def retry_date(seconds: float) -> Reply:
    """A date after so many seconds, by the server's own clock, which is an hour slow."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    later = now + timedelta(seconds=seconds)
    dates = {"Retry-After": format_datetime(later, usegmt=True), "Date": format_datetime(now, usegmt=True)}
    return Reply({"error": {"message": "busy"}}, 429, dates)


def openai(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "param": None, "code": code}, "id": "x", "request_id": "r-7"}


def native(message: str, code: str) -> dict[str, Any]:
    return {"code": code, "message": message, "request_id": "r-8"}


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON_START = b'{"data": [{"index": 0, "embedding": ['
SLOW = dict.fromkeys(["within"], 3.5)
BATCH = (
    "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than 10.: "
    "input.contents"
)
RATE, QUOTA, AUTH = errors.RemoteRateLimitError, errors.RemoteQuotaError, errors.RemoteAuthenticationError
REQUEST, SERVER, ANSWER = errors.RemoteRequestError, errors.RemoteServerError, errors.RemoteAnswerError
CONNECTION, TIMEOUT, MODERATION = errors.RemoteConnectionError, errors.RemoteTimeoutError, errors.RemoteModerationError
TOO_LONG, BATCHES = errors.RemoteInputTooLongError, errors.RemoteBatchError

LIMITS = [
    Case("429, OpenAI's form, then right", [status(429, openai("slow down", "limit_requests")), None], requests=2),
    Case(
        "429, DashScope's form, then right",
        [status(429, native("Requests rate limit", "Throttling.RateQuota")), None],
        requests=2,
    ),
    Case(
        "429 for tokens per minute, then right",
        [status(429, native("You exceeded your current quota", "Throttling.AllocationQuota")), None],
        requests=2,
    ),
    Case(
        "429, Retry-After in seconds",
        [status(429, **{"Retry-After": "1"}), None],
        requests=2,
        at_least=0.95,
        within=2.5,
    ),
    Case("429, Retry-After as a date", [retry_date(1), None], requests=2, at_least=0.95, within=2.5),
    Case("429, Retry-After as a date long past", [retry_date(-90), None], requests=2),
    Case("429, retry-after-ms", [status(429, **{"retry-after-ms": "300"}), None], requests=2, at_least=0.29),
    Case("429, Retry-After that is nonsense", [status(429, **{"Retry-After": "soon"}), None], requests=2),
    Case("429, Retry-After beyond the deadline", [status(429, **{"Retry-After": "3600"})], RATE, requests=1),
    Case("429 for ever", [status(429)], RATE, requests=4, says="4 attempts"),
    Case(
        "429, free quota used up",
        [status(429, native("Free allocated quota exceeded.", "Throttling"))],
        QUOTA,
        requests=1,
    ),
]
FAILURES = [
    Case("500 twice, then right", [status(500), status(500), None], requests=3),
    Case(
        "500 for ever",
        [status(500, native("list index out of range", "InternalError.Algo"))],
        SERVER,
        requests=4,
        says="r-8",
    ),
    Case("502 with an HTML page, then right", [raw(b"<html><h1>Bad Gateway</h1></html>", 502), None], requests=2),
    Case("503 with Retry-After, then right", [status(503, **{"Retry-After": "0"}), None], requests=2),
    Case(
        "503 for ever, TEI's form",
        [status(503, {"error": "unhealthy", "error_type": "unhealthy"})],
        SERVER,
        requests=4,
        says="unhealthy",
    ),
    Case(
        "504 for ever, HTML", [raw(b"<html>Gateway Time-out</html>", 504)], SERVER, requests=4, says="Gateway Time-out"
    ),
    Case("529, then right", [status(529), None], requests=2),
    Case("408, then right", [status(408), None], requests=2),
    Case("409, then right", [status(409), None], requests=2),
    Case("500 with a body of a megabyte", [raw(b"x" * 1_000_000, 500)], SERVER, requests=4),
    Case("500 with a body that is no text", [raw(b"\xff\xfe\x00\x01" * 50, 500)], SERVER, requests=4),
]
REFUSALS = [
    Case(
        "401, OpenAI's form",
        [status(401, openai(f"Incorrect API key provided: {KEY}", "invalid_api_key"))],
        AUTH,
        requests=1,
        says="***",
    ),
    Case(
        "401, DashScope's form",
        [status(401, native("Invalid API-key provided.", "InvalidApiKey"))],
        AUTH,
        requests=1,
        says="InvalidApiKey",
    ),
    Case(
        "403, no access to the model",
        [status(403, native("Model access denied.", "Model.AccessDenied"))],
        AUTH,
        requests=1,
    ),
    Case("403, an empty page", [raw(b"", 403)], AUTH, requests=1, says="no reason given"),
    Case("402", [status(402, {"detail": "insufficient balance"})], QUOTA, requests=1),
    Case(
        "400, in arrears",
        [status(400, native("Access denied, please make sure your account is in good standing.", "Arrearage"))],
        QUOTA,
        requests=1,
    ),
    Case(
        "400, OpenAI's form",
        [status(400, openai("dimension 7 is invalid", "InvalidParameter"))],
        REQUEST,
        requests=1,
        says="dimension 7 is invalid",
    ),
    Case(
        "400, DashScope's form",
        [status(400, native("Required input missing", "InvalidParameter"))],
        REQUEST,
        requests=1,
        says="r-8",
    ),
    Case(
        "400, vLLM's older form",
        [
            status(
                400,
                {
                    "object": "error",
                    "message": "The model does not support Embeddings API",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                },
            )
        ],
        REQUEST,
        requests=1,
        says="does not support Embeddings",
    ),
    Case(
        "404, Ollama's form",
        [status(404, {"error": "model 'm' not found, try pulling it first"})],
        REQUEST,
        requests=1,
        says="try pulling",
    ),
    Case(
        "404, an HTML page",
        [raw(b"<html><title>404</title>Not here</html>", 404)],
        REQUEST,
        requests=1,
        says="Not here",
    ),
    Case("405", [status(405, {"detail": "Method Not Allowed"})], REQUEST, requests=1),
    Case(
        "422, TEI's form",
        [status(422, {"error": "`inputs` cannot be empty", "error_type": "Validation"})],
        REQUEST,
        requests=1,
    ),
    Case(
        "422, FastAPI's list",
        [status(422, {"detail": [{"loc": ["body", "input"], "msg": "Field required"}]})],
        REQUEST,
        requests=1,
        says="Field required",
    ),
    Case("424, TEI's back end", [status(424, {"error": "backend", "error_type": "backend"})], REQUEST, requests=1),
    Case(
        "400, one text too long",
        [refuse_text("gamma", status(400, native("Range of input length should be [1, 8192]", "InvalidParameter")))],
        BATCHES,
        says="1 of 4",
    ),
    Case(
        "400, every text too long",
        [status(400, openai("This model's maximum context length is 8 tokens", "BadRequestError"))],
        TOO_LONG,
    ),
    Case(
        "500, llama.cpp's way to say too long",
        [
            status(
                500,
                {
                    "error": {
                        "code": 500,
                        "message": "input is too large to process. increase the physical batch size",
                        "type": "server_error",
                    }
                },
            )
        ],
        TOO_LONG,
    ),
    Case(
        "400, more rows than it takes",
        [refuse_more_than(2, status(400, native(BATCH, "InvalidParameter")))],
        requests=3,
    ),
    Case(
        "413, more rows than it takes",
        [
            refuse_more_than(
                1, status(413, {"error": "batch size 4 > maximum allowed batch size 1", "error_type": "Validation"})
            )
        ],
        requests=7,
    ),
    Case(
        "400, moderation of one text",
        [
            refuse_text(
                "beta", status(400, native("Input data may contain inappropriate content.", "DataInspectionFailed"))
            )
        ],
        BATCHES,
        says="1 of 4",
    ),
    Case(
        "400, moderation of all",
        [status(400, openai("Output data may contain inappropriate content.", "data_inspection_failed"))],
        MODERATION,
    ),
    Case(
        "302, elsewhere",
        [Reply(None, 302, {"Location": "http://elsewhere.example/v1"})],
        REQUEST,
        requests=1,
        says="elsewhere.example",
    ),
    Case("307, elsewhere", [Reply(None, 307, {"Location": "/login"})], REQUEST, requests=1, says="redirects"),
]
WIRE = [
    Case("no answer, then right", [on_socket(then=1.2), None], requests=2, at_least=0.5, within=2.5),
    Case("no answer for ever", [on_socket(then=1.2)], TIMEOUT, **SLOW),
    Case(
        "headers one by one for ever",
        [on_socket(OK_HEAD, *[b"X-A: b\r\n"] * 60, every=0.1)],
        TIMEOUT,
        **SLOW,
        says="2 s",
    ),
    Case(
        "body byte by byte for ever",
        [on_socket(OK_HEAD + b"Content-Length: 9999\r\n\r\n", *[b"["] * 60, every=0.1)],
        TIMEOUT,
        **SLOW,
        says="2 s",
    ),
    Case("hangs up without a word, then right", [on_socket(), None], requests=2),
    Case("hangs up without a word for ever", [on_socket()], CONNECTION, requests=4),
    Case("hangs up in the headers, then right", [on_socket(OK_HEAD), None], requests=2),
    Case(
        "hangs up in the body, then right",
        [on_socket(OK_HEAD + b"Content-Length: 999\r\n\r\n" + JSON_START), None],
        requests=2,
    ),
    Case(
        "hangs up in the body for ever",
        [on_socket(OK_HEAD + b"Content-Length: 999\r\n\r\n" + JSON_START)],
        CONNECTION,
        requests=4,
    ),
    Case(
        "hangs up in a chunk, then right",
        [on_socket(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + JSON_START), None],
        requests=2,
    ),
    Case(
        "a chunk that is none",
        [on_socket(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}")],
        CONNECTION,
        requests=4,
    ),
    Case("no HTTP at all", [on_socket(b"\x15\x03\x01\x00\x02\x02\x46")], CONNECTION, requests=4),
    Case("headers without end", [on_socket(OK_HEAD, *[b"X-A: " + b"b" * 8000 + b"\r\n"] * 20)], CONNECTION, requests=4),
]
CONTENT = [
    Case("right", [None], requests=1),
    Case(
        "right, compressed",
        [lambda r: Reply(raw=gzip.compress(right(r).content()), headers={"Content-Encoding": "gzip"})],
        requests=1,
    ),
    Case(
        "right, in chunks",
        [
            lambda r: on_socket(
                OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
                *(b"%x\r\n%s\r\n" % (len(p), p) for p in (right(r).content()[:50], right(r).content()[50:])),
                b"0\r\n\r\n",
            )
        ],
        requests=1,
    ),
    Case("right, with a byte order mark", [lambda r: raw(b"\xef\xbb\xbf" + right(r).content())], requests=1),
    Case("right, rows shuffled", [changed(lambda data: data.reverse())], requests=1),
    Case("right, further fields", [changed(lambda data: [{**row, "new": {"x": 1}} for row in data])], requests=1),
    Case("compressed, but not really", [raw(b"\x1f\x8bnothing", **{"Content-Encoding": "gzip"})], ANSWER, requests=1),
    Case(
        "cut JSON with the right length", [lambda r: raw(right(r).content()[:-40])], ANSWER, requests=1, says="no JSON"
    ),
    Case("an empty body", [raw(b"")], ANSWER, requests=1),
    Case(
        "an HTML page",
        [raw(b"<!doctype html><title>Log in</title>", **{"Content-Type": "text/html"})],
        ANSWER,
        requests=1,
        says="Log in",
    ),
    Case("null", [raw(b"null")], ANSWER, requests=1),
    Case("a number", [raw(b"7")], ANSWER, requests=1),
    Case("an empty object", [raw(b"{}")], ANSWER, requests=1, says="data"),
    Case("nested a thousandfold", [raw(b"[" * 100_000 + b"]" * 100_000)], ANSWER, requests=1),
    Case(
        "an error as a success",
        [raw(json.dumps(openai("model is loading", "unavailable")).encode())],
        REQUEST,
        requests=1,
        says="model is loading",
    ),
    Case("a row too few", [changed(lambda data: data[1:])], ANSWER, requests=1, says="3 rows for 4"),
    Case("a row too many", [changed(lambda data: [*data, data[0]])], ANSWER, requests=1, says="5 rows for 4"),
    Case(
        "rows without index",
        [changed(lambda data: [{"embedding": r["embedding"]} for r in data])],
        ANSWER,
        requests=1,
        says="index",
    ),
    Case("an index twice", [changed(lambda data: data[1].update(index=0))], ANSWER, requests=1),
    Case("an index out of range", [changed(lambda data: data[1].update(index=9))], ANSWER, requests=1),
    Case("an index that is text", [changed(lambda data: data[1].update(index="1"))], ANSWER, requests=1),
    Case("some rows without index", [changed(lambda data: data[1].update(index=None))], ANSWER, requests=1),
    Case("NaN", [value(math.nan)], ANSWER, requests=1, says="finite"),
    Case("infinity", [value(-math.inf)], ANSWER, requests=1, says="finite"),
    Case("beyond float32", [value(1e60)], ANSWER, requests=1, says="finite"),
    Case("null in a vector", [value(None)], ANSWER, requests=1),
    Case("text in a vector", [value("0.5")], ANSWER, requests=1),
    Case(
        "true in a vector of them", [changed(lambda data: data[1].update(embedding=[True] * WIDTH))], ANSWER, requests=1
    ),
    Case("a list in a vector", [value([0.5])], ANSWER, requests=1),
    Case("a vector in base64", [changed(lambda data: data[1].update(embedding="AACAPwAAgD8="))], ANSWER, requests=1),
    Case("no vector", [changed(lambda data: data[1].pop("embedding") and None)], ANSWER, requests=1),
    Case("an empty vector", [changed(lambda data: data[1].update(embedding=[]))], ANSWER, requests=1),
    Case(
        "a vector of zeros",
        [changed(lambda data: data[1].update(embedding=[0.0] * WIDTH))],
        ANSWER,
        requests=1,
        says="no direction",
    ),
    Case(
        "one vector shorter",
        [changed(lambda data: data[1]["embedding"].pop() and None)],
        ANSWER,
        requests=1,
        says="width",
    ),
    Case(
        "a body without end",
        [lambda r: on_socket(OK_HEAD + b"Connection: close\r\n\r\n", *[b" " * 1_000_000] * 70)],
        ANSWER,
        requests=1,
        within=4,
        says="64",
    ),
]
CASES = [*LIMITS, *FAILURES, *REFUSALS, *WIRE, *CONTENT]
