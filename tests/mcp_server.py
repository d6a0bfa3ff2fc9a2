"""A real MCP server over stdio, for the tests of agents: `python tests/mcp_server.py`."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("stock", log_level="ERROR")


@server.tool()
def count_stock(article: str) -> str:
    """How many pieces of an article are in stock."""
    return f"42 pieces of {article}"


@server.tool()
def find_shelf(article: str, floor: int = 1) -> str:
    """The shelf where an article lies."""
    return f"shelf B{floor} has {article}"


if __name__ == "__main__":
    server.run("stdio")
