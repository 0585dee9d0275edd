"""What the instances serve: one tool that takes its time and says how far it is."""

from __future__ import annotations

import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tmcp_serverless import create_handler

server = MCPServer("adversity", log_level="ERROR")


@server.tool()
async def count(steps: int, pause_seconds: float, ctx: Context) -> str:
    """Count to `steps`, one progress notification each."""
    for step in range(1, steps + 1):
        await asyncio.sleep(pause_seconds)
        await ctx.report_progress(step, steps)
    return f"counted to {steps}"


handler = create_handler(server)
