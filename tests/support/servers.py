"""Servers that tests serve."""

from __future__ import annotations

from functools import cache

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool


def small_server() -> MCPServer:
    """A server with a little of everything."""
    server = MCPServer("small", log_level="ERROR", tools=_tools())

    @server.resource("note://one")
    def one() -> str:
        return "the note"

    return server


@cache
def _tools() -> list[Tool]:
    # A model of its arguments takes 3 ms, and hundreds of tests have such a server.
    return [Tool.from_function(tool) for tool in (add, echo, talk, change)]


async def add(a: int, b: int) -> str:
    return str(a + b)


async def echo(text: str) -> str:
    return text


async def talk(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    await ctx.info("halfway")  # pyright: ignore[reportDeprecated]
    return "done"


async def change(ctx: Context) -> str:
    await ctx.session.send_tool_list_changed()
    return "changed"
