"""Servers that tests serve."""

from __future__ import annotations

from mcp.server import MCPServer
from mcp.server.mcpserver import Context


def small_server() -> MCPServer:
    """A server with a little of everything."""
    server = MCPServer("small", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> str:
        return str(a + b)

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def talk(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await ctx.info("halfway")  # pyright: ignore[reportDeprecated]
        return "done"

    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.session.send_tool_list_changed()
        return "changed"

    @server.resource("note://one")
    def one() -> str:
        return "the note"

    return server
