"""Serving over the two transports of MCP: standard input and output, and streamable HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from qwen3_rag.errors import ConfigurationError

PATH: Final = "/mcp"
_LAST_PORT: Final = 65_535
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_GRACE: Final = 3
"""Seconds that open connections have when the server stops; clients keep some open for as long as they live."""

logger = logging.getLogger(__name__)


def serve_stdio(server: Server[Any]) -> None:
    """Serves one client over standard input and output until it closes them.

    Whatever else writes to standard output meanwhile goes to standard error.

    Args:
        server: What `create_mcp_server` returns.
    """
    try:
        asyncio.run(_serve_stdio(server))
    except* BrokenPipeError:
        logger.warning("the client has gone, and a result for it was on its way")


async def _serve_stdio(server: Server[Any]) -> None:
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def serve_http(
    server: Server[Any], host: str = "127.0.0.1", port: int = 8000, *, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serves over streamable HTTP until the process is told to stop.

    There is no authentication: whoever reaches the port can search. Requests that name another host than this one, and
    those of web pages elsewhere, are refused, so that no page can reach it through the user's browser (DNS rebinding).

    Args:
        server: What `create_mcp_server` returns.
        host: Address to listen at, and the name that clients may use beside those of the loopback.
        port: Port to listen at; 0 takes a free one.
        ready: Is told the URL once clients can connect.

    Raises:
        ConfigurationError: If it can't listen there.
    """
    with _listening(host, port) as listener:
        asyncio.run(_serve_http(server, host, listener, ready))


def _listening(host: str, port: int) -> socket.socket:
    if not host:
        raise ConfigurationError("host is empty, which would listen at every address: name one, such as 127.0.0.1")
    if not 0 <= port <= _LAST_PORT:
        raise ConfigurationError(f"port is {port}, expected 0 to {_LAST_PORT}, where 0 takes a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"can't listen at {host} port {port}: {error}. Choose another port") from error


async def _serve_http(server: Server[Any], host: str, listener: socket.socket, ready: Callable[[str], None]) -> None:
    import uvicorn  # comes with mcp

    names = [f"{name}{port}" for name in dict.fromkeys((*_LOOPBACK, _written(host))) for port in ("", ":*")]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    if _written(host) not in _LOOPBACK:
        logger.warning("host %s is open to others, and this server authenticates nobody: put a proxy before it", host)
    app = server.streamable_http_app(streamable_http_path=PATH, transport_security=security)
    # Its own logging would write to standard output.
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE)
    ready(f"http://{_written(host)}:{listener.getsockname()[1]}{PATH}")
    await uvicorn.Server(config).serve(sockets=[listener])


def _written(host: str) -> str:
    """An address as URLs have it."""
    return f"[{host}]" if ":" in host else host
