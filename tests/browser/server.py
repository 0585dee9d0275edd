"""The server that pages call: `python -m tests.browser.server` runs it in the container host."""

from __future__ import annotations

import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from tmcp_serverless import create_handler, replayable
from tmcp_serverless.hosts.container import serve

server = MCPServer("counter", log_level="ERROR")


class Consent(BaseModel):
    """The form that the user fills in."""

    sure: bool


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
@replayable
async def consent(question: str, ctx: Context) -> str:
    """Ask the user, with a form."""
    answer = await ctx.elicit(question, Consent)
    return f"accept: {answer.data.sure}" if answer.action == "accept" else answer.action


@server.tool()
async def work(steps: int, ctx: Context) -> str:
    """Report progress step by step."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps)
        await asyncio.sleep(0.1)
    return f"{steps} steps"


handler = create_handler(server)

if __name__ == "__main__":
    serve(handler.app, host="127.0.0.1")
