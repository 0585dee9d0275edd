"""The process whose cold start is measured."""

from __future__ import annotations

import asyncio
import os

from mcp.server import MCPServer

from benchmarks.asgi import Client, lifespan
from tmcp_serverless.handler import create_handler

server = MCPServer("benchmarks", log_level="ERROR")


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


handler = create_handler(server, database_url=os.environ["BENCH_DATABASE_URL"])


def answer_one_call() -> None:
    """Answer one `tools/call` on the session that exists, and say so."""
    asyncio.run(_answer())


async def _answer() -> None:
    async with lifespan(handler.app):
        client = Client(handler.app)
        client.resume(os.environ["BENCH_SESSION_ID"])
        await client.add()
        print("ready", flush=True)
