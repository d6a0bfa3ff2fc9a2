"""A small HTTP/1.1 server with kept connections, whose answers are functions of what it received."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True)
class Reply:
    """An answer: a body that is sent as JSON, or raw bytes, or a function that writes to the socket as it likes."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    write: Callable[[socket.socket], None] | None = None

    def content(self) -> bytes:
        return json.dumps(self.body).encode() if self.raw is None else self.raw


App = Callable[[Received], Reply]


class Loopback:
    """Runs an app on a free port for the time of a `with` block and remembers the requests, unless told not to."""

    def __init__(self, app: App, *, remember: bool = True) -> None:
        self.app = app
        self.remember = remember
        self.received: list[Received] = []
        self.connections = 0
        self._guard = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet for an answer, or Nagle's algorithm and delayed acknowledgement cost 40 ms each
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer._count_connection()

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length", 0)))
                received = Received(self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
                outer._remember(received)
                self._answer(outer.app(received))

            def _answer(self, reply: Reply) -> None:
                if reply.write is not None:
                    self.close_connection = True
                    try:
                        reply.write(self.connection)
                        self.connection.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # the client has had enough
                    return
                content = reply.content()
                self.send_response_only(reply.status)  # without a Date of its own
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *args: Any) -> None:
                pass  # a client that hangs up is part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def bodies(self) -> list[Any]:
        return [received.body for received in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _remember(self, received: Received) -> None:
        if self.remember:
            with self._guard:
                self.received.append(received)

    def _count_connection(self) -> None:
        with self._guard:
            self.connections += 1
