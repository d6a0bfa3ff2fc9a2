"""The only place that sends: deadlines, attempts, rate, and every failure as one typed error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from qwen3_rag.errors import (
    ConfigurationError,
    InputError,
    RemoteAnswerError,
    RemoteConnectionError,
    RemoteError,
    RemoteTimeoutError,
    causes,
)
from qwen3_rag.remote.failures import redact, to_error
from qwen3_rag.remote.limits import RateLimit
from qwen3_rag.remote.retry import RetryPolicy
from qwen3_rag.remote.timeouts import Timeouts

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Larger answers are given up while they arrive: 2,048 vectors of 1,024 numbers take about 45 MB as JSON."""

_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request, without its host and key.

    Attributes:
        path: Where on the host.
        body: What is sent as JSON.
        tokens: What it counts for in the rate limit.
    """

    path: str
    body: Mapping[str, Any]
    tokens: int = 0


class HttpClient:
    """Posts JSON to one host. Every coroutine belongs to one event loop; nothing is opened before the first request.

    Proxies and certificates come from the usual environment variables: `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,
    `SSL_CERT_DIR`, and `REQUESTS_CA_BUNDLE` where neither of these is set.

    Args:
        server: How errors call the server.
        base_url: Scheme and host, perhaps with a path that every request's own path follows.
        api_key: Sent as a bearer token.
        headers: More headers.
        timeouts: The deadlines.
        retries: When a request is sent again.
        rate_limit: How fast requests leave.
        concurrency: How many are on their way at once.
    """

    def __init__(
        self,
        *,
        server: str,
        base_url: str,
        api_key: SecretStr | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        retries: RetryPolicy | None = None,
        rate_limit: RateLimit | None = None,
        concurrency: int = 8,
    ) -> None:
        self.server = server
        self._base_url = base_url
        self._key = api_key
        self._headers = dict(headers or {})
        self._timeouts = timeouts or Timeouts()
        self._retries = retries or RetryPolicy()
        self._limit = rate_limit or RateLimit()
        self.concurrency = concurrency
        self._in_a_row = 0
        self._start_closed()

    def _start_closed(self) -> None:
        self._opened: list[_Opened] = []  # one at most, in a list that outlives the client
        weakref.finalize(self, _close_later, self._opened).atexit = False

    def __deepcopy__(self, memo: dict[int, Any]) -> HttpClient:
        return self  # copies of a model share its connections

    def __getstate__(self) -> dict[str, Any]:
        if self._key is not None or self._headers:
            raise ConfigurationError(
                f"the client of {self.server} holds a key or headers, which must not get into a pickle: make the model "
                "again where it is needed; copying works"
            )
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_closed()

    async def post(self, request: Request) -> Any:
        """Sends a request, again where that may help, and returns the decoded body of the answer.

        Raises:
            InputError: If a text is no valid Unicode.
            RemoteError: The one error that all attempts came to.
        """
        content = _encode(request.body)
        last: list[RemoteError] = []
        try:
            async with asyncio.timeout(self._timeouts.total) as deadline:
                return await self._attempts(request, content, last, deadline)
        except TimeoutError as cause:
            if isinstance(cause, RemoteError):
                raise
            error = RemoteTimeoutError(
                f"{self.server} gave no complete answer within {self._timeouts.total:g} s"
                + (f"; the last attempt: {last[-1]}" if last else "")
                + ". Raise timeout=, or send less at once with rows="
            )
            error.attempts = len(last) + 1
            raise error from (last[-1] if last else cause)

    async def aclose(self) -> None:
        """Closes the connections; a later request would open new ones."""
        while self._opened:
            opened = self._opened.pop()
            if opened.loop is asyncio.get_running_loop():
                await opened.client.aclose()

    async def _attempts(
        self, request: Request, content: bytes, errors: list[RemoteError], deadline: asyncio.Timeout
    ) -> Any:
        while True:
            try:
                answer = await self._attempt(request, content, deadline)
            except RemoteError as error:
                self._in_a_row += 1
                errors.append(error)
                error.attempts = len(errors)
                delay = self._retries.delay(errors, self._in_a_row)
                if delay is None or delay >= _left(deadline):
                    raise
                if error.retry_after:
                    self._limit.pause(time.monotonic() + error.retry_after)
            else:
                self._in_a_row = 0
                return answer
            await asyncio.sleep(delay)  # without a place among the requests on their way, which others take meanwhile

    async def _attempt(self, request: Request, content: bytes, deadline: asyncio.Timeout) -> Any:
        opened = self._connected()
        left = _left(deadline)
        deadline.reschedule(None)  # until it is this request's turn: a long queue is not the server's fault
        async with opened.places:
            await self._limit.acquire(request.tokens, time.monotonic)
            deadline.reschedule(asyncio.get_running_loop().time() + left)
            with self._faults():
                status, headers, body = await self._exchange(opened.client, request.path, content)
        if not httpx.codes.is_success(status):
            raise to_error(status, headers, body, server=self.server, secret=self._secret())
        return self._decode(status, body)

    async def _exchange(
        self, client: httpx.AsyncClient, path: str, content: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        async with client.stream("POST", self._base_url + path, content=content) as response:
            most = MAX_ANSWER_BYTES if response.is_success else _ERROR_BYTES
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > most and response.is_success:
                    raise RemoteAnswerError(
                        f"{self.server} sends more than {most:,} bytes: ask for less at once with rows=",
                        status=response.status_code,
                    )
                if len(body) > most:
                    break
            return response.status_code, response.headers, bytes(body)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns what httpx raises into this package's errors."""
        try:
            yield
        except httpx.TimeoutException as error:
            part = "connection" if isinstance(error, httpx.ConnectTimeout) else "answer"
            raise RemoteTimeoutError(
                f"{self.server} gave no {part} in time ({type(error).__name__}). Is it running, and within reach?"
            ) from error
        except httpx.DecodingError as error:
            raise RemoteAnswerError(f"{self.server} sends a body that can't be decompressed: {error}") from error
        except httpx.TransportError as error:
            certificate = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))
            advice = "Set SSL_CERT_FILE to your own authority" if certificate else "Check base_url, network and proxy"
            kind = _UntrustedServerError if certificate else RemoteConnectionError
            why = redact(str(error) or type(error).__name__, self._secret())
            raise kind(f"{self.server} can't be reached: {why}. {advice}") from error

    def _decode(self, status: int, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            start = redact(body[:80].decode("utf-8", "replace"), self._secret())
            raise RemoteAnswerError(f"{self.server} answers with no JSON: {start!r}", status=status) from error

    def _connected(self) -> _Opened:
        loop = asyncio.get_running_loop()
        if not self._opened or self._opened[0].loop is not loop:  # the first request of this process
            self._opened[:] = [_Opened(loop, self._new_client(), asyncio.Semaphore(self.concurrency))]
        return self._opened[0]

    def _new_client(self) -> httpx.AsyncClient:
        headers = {"User-Agent": "qwen3-rag", "Content-Type": "application/json", "Accept": "application/json"}
        headers |= self._headers
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(self._timeouts.read, connect=self._timeouts.connect, pool=None),
            limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
            verify=_tls_context(),
            follow_redirects=False,  # a key must not follow to another host
        )

    def _secret(self) -> str | None:
        return None if self._key is None else self._key.get_secret_value()


@dataclass(frozen=True, slots=True)
class _Opened:
    """Connections, the loop that they belong to, and as many places as there are connections."""

    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient
    places: asyncio.Semaphore


def _left(deadline: asyncio.Timeout) -> float:
    when = deadline.when()
    return math.inf if when is None else when - asyncio.get_running_loop().time()


def _close_later(opened: list[_Opened]) -> None:
    """Closes the connections of a client that nobody holds any more, in their own loop."""
    for item in opened:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are they
            asyncio.run_coroutine_threadsafe(item.client.aclose(), item.loop)


class _UntrustedServerError(RemoteConnectionError):
    """The server's certificate is not trusted: sending again would not change that."""

    retryable = False


def check_key(key: SecretStr) -> SecretStr:
    """Returns the key, or says why it can't be one, without showing it.

    Raises:
        ConfigurationError: If it is empty or can't stand in a header.
    """
    value = key.get_secret_value()
    if not isinstance(value, str):
        raise ConfigurationError(f"the API key must be a string or a SecretStr, got {type(value).__name__}")
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise ConfigurationError("the API key is empty or has spaces, line breaks or characters that no key has")
    return key


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        start = error.object[max(0, error.start - 20) : error.start + 1]
        raise InputError(
            f"a text holds half of a surrogate pair after {start!r:.60}: it is no valid Unicode"
        ) from error


def _tls_context() -> ssl.SSLContext | bool:
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if not bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return True
    is_folder = Path(bundle).is_dir()
    return ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
