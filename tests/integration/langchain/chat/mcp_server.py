"""A small MCP server over stdio: `python mcp_server.py`."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("stock")


@server.tool()
def price(article: str) -> str:
    """The price of an article in the stock."""
    return f"{article} costs 12.50"


@server.tool()
def order(article: str, amount: int) -> dict[str, str | int]:
    """Order an amount of an article from the stock."""
    if amount < 1:
        raise ValueError(f"an order of {amount} makes no sense")
    return {"article": article, "amount": amount, "number": "A-17"}


if __name__ == "__main__":
    server.run("stdio")
