"""The server that every application under test serves."""

from __future__ import annotations

from mcp.server import MCPServer

__all__ = ["build_server"]


def build_server() -> MCPServer:
    """Return a server with one tool."""
    server = MCPServer("benchmarks", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:  # pyright: ignore[reportUnusedFunction]
        """Add two numbers."""
        return a + b

    return server
