"""An application as somebody would write it for an ASGI server: tests let servers run it, and stop them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcp.server.mcpserver import Context

from tests.support.servers import small_server
from tmcp_serverless import create_handler

server = small_server()


@server.tool()
async def endless(ctx: Context) -> str:
    await ctx.report_progress(1, 2)
    await asyncio.sleep(3600)
    return "never"


@server.tool()
async def silent(note: str) -> str:
    await asyncio.to_thread(Path(note).touch)
    await asyncio.sleep(3600)
    return "never"


app = create_handler(server).app
