"""The HTTP server of the package; what it does is told in the package's docstring."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, Literal, Self, TypeVar

from tests.chat_server.dialects import FACES, Face
from tests.chat_server.exchange import ClientGoneError, Exchange, Recorded, Reply, Usage
from tests.chat_server.faults import FAULTS, Fault
from tests.chat_server.script import ToolCall
from tests.chat_server.wire import PromptCache

KEY = "sk-test-0123456789"
T = TypeVar("T")
When = Callable[[Recorded], bool]
CallSpec = tuple[str, Mapping[str, Any] | str] | Mapping[str, Any]


@dataclass(slots=True)
class _Planned(Generic[T]):
    what: T
    left: int | None  # None: for ever
    when: When | None


class _Plan(Generic[T]):
    """What was scripted, first in, first out; used from the threads of the requests."""

    def __init__(self) -> None:
        self._entries: list[_Planned[T]] = []
        self._lock = threading.Lock()

    def add(self, what: T, times: int | None, when: When | None) -> None:
        with self._lock:
            self._entries.append(_Planned(what, times, when))

    def take(self, request: Recorded, only: Callable[[T], bool] = lambda what: True) -> T | None:
        """The first entry that is meant for the request, if it is of the kind that is wanted now."""
        with self._lock:
            for entry in self._entries:
                if entry.when is None or entry.when(request):
                    if not only(entry.what):
                        return None
                    if entry.left is not None:
                        entry.left -= 1
                        if entry.left <= 0:
                            self._entries.remove(entry)
                    return entry.what
        return None

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class ChatServer:
    """A chat server on 127.0.0.1; use it as a context manager.

    Args:
        context_tokens: The longest prompt, in words; None for any.
        key: The only key that the cloud faces take.
        delay: Seconds that slow faults wait.
    """

    def __init__(self, *, context_tokens: int | None = None, key: str = KEY, delay: float = 3.0) -> None:
        self.context_tokens, self.key, self.delay = context_tokens, key, delay
        self.requests: list[Recorded] = []
        self.crashes: list[Exception] = []  # faults of this server itself; the first is raised when it is closed
        self._replies: _Plan[Reply] = _Plan()
        self._faults: _Plan[Fault] = _Plan()
        self._cache, self._lock = PromptCache(), threading.Lock()
        self._closing = threading.Event()
        self._idle = threading.Condition()
        self._running = 0
        handler = type("Handler", (_Handler,), {"chat": self})
        self._http = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if self.crashes and exception[0] is None:
            raise self.crashes[0]

    @property
    def url(self) -> str:
        """Base URL of DashScope's face."""
        return self.url_for("dashscope")

    def url_for(self, face: str) -> str:
        """Base URL of a face, as a client takes it; the names are in `FACES`."""
        return f"http://127.0.0.1:{self._http.server_port}{FACES[face].path}"

    @property
    def last(self) -> Recorded:
        return self.requests[-1]

    @property
    def bodies(self) -> list[Any]:
        return [request.body for request in self.requests if request.method == "POST"]

    @property
    def unused(self) -> int:
        """How many scripted entries are left."""
        return len(self._replies) + len(self._faults)

    def reply(
        self,
        text: str = "",
        *,
        reasoning: str = "",
        tool_calls: Sequence[CallSpec] = (),
        deltas: Iterable[Mapping[str, Any]] | None = None,
        message: Mapping[str, Any] | None = None,
        raw: bytes | None = None,
        finish_reason: str | None = None,
        usage: Usage = "auto",
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        pause: float = 0.0,
        done: bool = True,
        times: int | None = 1,
        when: When | None = None,
    ) -> None:
        """Scripts what the next requests are answered, after what was scripted before."""
        calls = tuple(_tool_call(spec, i) for i, spec in enumerate(tool_calls))
        scripted = Reply(
            text=text,
            reasoning=reasoning,
            tool_calls=calls,
            deltas=None if deltas is None else tuple(deltas),
            message=message,
            raw=raw,
            finish_reason=finish_reason,
            usage=usage,
            status=status,
            content_type=content_type,
            headers=headers or {},
            pause=pause,
            done=done,
        )
        self._replies.add(scripted, times, when)

    def fail(self, name: str, *, times: int | Literal["own"] | None = "own", when: When | None = None) -> Fault:
        """Lets the next requests fail; as often as the fault itself says unless `times` is given (None: for ever)."""
        fault = FAULTS[name]
        self._faults.add(fault, fault.times if times == "own" else times, when)
        return fault

    def clear(self) -> None:
        """Forgets requests, scripted replies, faults and the prompt cache."""
        self._replies.clear()
        self._faults.clear()
        with self._lock:
            self.requests.clear()
            self._cache = PromptCache()

    def settled(self, timeout: float = 5.0) -> bool:
        """Waits until no request is being answered, e.g. after a cancellation; False if that takes too long."""
        with self._idle:
            return self._idle.wait_for(lambda: self._running == 0, timeout)

    # --- used by the threads of the requests

    def next_reply(self, request: Recorded) -> Reply | None:
        return self._replies.take(request)

    def look_in_cache(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int, bool]:
        with self._lock:
            return self._cache.look(messages)

    def wait(self, seconds: float) -> None:
        if seconds > 0:
            self._closing.wait(seconds)

    def record(self, request: Recorded) -> None:
        with self._lock:
            self.requests.append(request)

    def handle(self, exchange: Exchange) -> None:
        """Answers one chat request: by a fault, by bytes as they are, or properly."""
        with self._idle:
            self._running += 1
        try:
            self._handle(exchange)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _handle(self, exchange: Exchange) -> None:
        fault = self._faults.take(exchange.request)
        if fault is not None:
            fault.play(exchange)
            return
        raw = self._replies.take(exchange.request, only=lambda reply: reply.raw is not None)
        if raw is not None and raw.raw is not None:
            self.wait(raw.pause)
            exchange.send(raw.status, raw.raw, raw.content_type, raw.headers)
            return
        exchange.answer()


def _tool_call(spec: CallSpec, index: int) -> ToolCall:
    if isinstance(spec, Mapping):
        name, arguments, call_id = spec["name"], spec["args"], spec.get("id")
    else:
        (name, arguments), call_id = spec, None
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, text, call_id or f"call_scripted_{index}")


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that a client resets is no news; what is wrong here is in `ChatServer.crashes`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chat: ChatServer

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""

    def _read(self) -> tuple[Recorded, Face | None]:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        face = next((f for f in FACES.values() if self.path.startswith(f"{f.path}/")), None)
        body = None
        if content:
            with suppress(ValueError):
                body = json.loads(content)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Recorded(self.command, self.path, face.name if face else None, headers, body)
        self.chat.record(request)
        return request, face

    def _serve(self) -> None:
        request, face = self._read()
        chat_path = face is not None and self.path == f"{face.path}/chat/completions" and self.command == "POST"
        try:
            exchange = Exchange(self.chat, self, face or FACES["dashscope"], request)
            if chat_path:
                self.chat.handle(exchange)
            elif face is not None and self.path == f"{face.path}/models" and self.command == "GET":
                exchange.send_json(200, {"object": "list", "data": [{"id": "qwen-plus", "object": "model"}]})
            else:
                exchange.send_json(404, {"error": {"message": f"Not found: {self.path}", "code": "not_found"}})
        except ClientGoneError:
            self.close_connection = True
        except Exception as error:
            self.chat.crashes.append(error)
            self.close_connection = True
            raise

    do_GET = do_POST = _serve
