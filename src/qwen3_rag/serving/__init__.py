"""Retrieval for agents elsewhere: an MCP server with `search` and `ask`."""

from __future__ import annotations

from qwen3_rag.errors import missing_dependency

try:
    import mcp.server.lowlevel  # noqa: F401 - says at once which extra is missing
except ImportError as error:
    raise missing_dependency("mcp", "mcp") from error

from qwen3_rag.serving.server import create_mcp_server
from qwen3_rag.serving.transports import serve_http, serve_stdio

__all__ = ["create_mcp_server", "serve_http", "serve_stdio"]
