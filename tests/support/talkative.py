"""A server whose tools talk to their client and wait for the test, and the stage on which they meet."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import EmptyResult, PingRequest
from pydantic import BaseModel

CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}}, "sampling": {}, "roots": {"listChanged": True}}


class Answer(BaseModel):
    color: str


class Stage:
    """What tests and tools of one process say to each other."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()
        self.seen: list[Any] = []


def talkative_server(stage: Stage) -> MCPServer:  # noqa: C901 - a list of tools
    server = MCPServer("talkative", log_level="ERROR")

    @server.tool()
    async def favourite(ctx: Context) -> str:
        answer = await ctx.elicit("Which color?", Answer)
        return f"{answer.action} {answer.data.color if answer.action == 'accept' else ''}"

    @server.tool()
    async def several(ctx: Context) -> str:
        answers = await asyncio.gather(*(ctx.elicit(f"color {number}?", Answer) for number in range(5)))
        return " ".join(answer.data.color for answer in answers if answer.action == "accept")

    @server.tool()
    async def impatient(ctx: Context) -> str:
        try:
            await ctx.session.send_request(
                PingRequest(), EmptyResult, request_read_timeout_seconds=0.2, metadata=None
            )
        except MCPError as error:
            return f"{error.error.code} {error.error.message}"
        return "answered"

    @server.tool()
    async def roots(ctx: Context) -> str:
        return str([str(root.uri) for root in (await ctx.session.list_roots()).roots])  # pyright: ignore[reportDeprecated]

    @server.tool()
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1)
        stage.started.set()
        try:
            await stage.go_on.wait()
        except asyncio.CancelledError:
            stage.cancelled.set()
            raise
        await ctx.report_progress(2)
        stage.finished.set()
        return "done"

    @server.tool()
    async def quiet() -> str:
        stage.started.set()
        try:
            await stage.go_on.wait()
        except asyncio.CancelledError:
            stage.cancelled.set()
            raise
        return "done"

    @server.tool()
    async def let_go(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.close_sse_stream()
        stage.started.set()
        await stage.go_on.wait()
        await ctx.report_progress(2)
        return "done"

    @server.tool()
    async def part(ctx: Context) -> str:
        await ctx.close_standalone_sse_stream()
        return "parted"

    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.session.send_tool_list_changed()
        return "changed"

    @server.tool()
    async def big(size: int) -> str:
        return "x" * size

    @server.tool()
    async def log(ctx: Context) -> str:
        await ctx.debug("low")  # pyright: ignore[reportDeprecated]
        await ctx.warning("high")  # pyright: ignore[reportDeprecated]
        return "logged"

    @server.tool()
    async def seen(ctx: Context) -> str:
        assert ctx.headers is not None
        return f"{ctx.headers['user-agent']}, {ctx.request_context.protocol_version}"

    @server.tool()
    async def spell(ctx: Context) -> str:
        for number in range(20):
            await ctx.report_progress(number)
        return "spelled"

    @server.resource("note://one")
    def one() -> str:
        return "the note"

    return server
