"""The server of the tours: each tool is one thing that a reader has to live with."""

from __future__ import annotations

import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from tmcp_serverless import create_handler

server = MCPServer("readers", log_level="ERROR")


class Consent(BaseModel):
    sure: bool


@server.resource("note://{name}")
def note(name: str) -> str:
    return f"the note of {name}"


@server.tool()
async def add(a: int, b: int) -> str:
    return str(a + b)


@server.tool()
async def report(ctx: Context) -> str:
    """Report progress in the words that break lines elsewhere."""
    await ctx.report_progress(1, 3, "one\u2028two\u0085three\nfour")
    await ctx.report_progress(2, 3, "grüße")
    return "reported"


@server.tool()
async def consent(ctx: Context) -> str:
    answer = await ctx.elicit("Really?", Consent)
    return f"sure: {answer.data.sure}" if answer.action == "accept" else answer.action


@server.tool()
async def touch(name: str) -> str:
    await handler.notifier.resource_updated(f"note://{name}")
    return "touched"


@server.tool()
async def last(ctx: Context, seconds: float) -> str:
    """Last for a while, with a word before and after."""
    await ctx.report_progress(1, 3)
    await asyncio.sleep(seconds)
    await ctx.report_progress(2, 3)
    return "lasted"


@server.tool()
async def close(ctx: Context) -> str:
    """End this call's connection early."""
    await ctx.report_progress(1, 3)
    await ctx.close_sse_stream()
    await ctx.report_progress(2, 3)
    return "closed"


@server.tool()
async def rotate(ctx: Context) -> str:
    """End the connection of the session's standalone stream early."""
    await ctx.close_standalone_sse_stream()
    return "rotated"


handler = create_handler(server)
