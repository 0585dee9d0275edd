"""Tools that ask a client of 2026-07-28 directly: the log says once what to do about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from tests.support.modern import ModernClient
from tmcp_serverless import replayable
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler


class Answer(BaseModel):
    ok: bool


def mcpserver() -> MCPServer:
    server = MCPServer("x", log_level="ERROR")

    @server.tool()
    async def ask(ctx: Context) -> str:
        return str(await ctx.elicit("sure?", Answer))

    @server.tool()
    async def ask_or_not(ctx: Context) -> str:
        try:
            return str(await ctx.elicit("sure?", Answer))
        except Exception:  # noqa: BLE001 - as tools do
            return "not asked"

    @server.tool()
    @replayable
    async def marked(ctx: Context) -> str:
        return str(await ctx.elicit("sure?", Answer))

    @server.tool()
    async def failing() -> str:
        raise ValueError("unavailable")

    return server


def fastmcp() -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP("x")

    @server.tool
    async def ask(ctx: FastContext) -> str:
        return str(await ctx.elicit("sure?", bool))

    @server.tool
    @replayable
    async def marked(ctx: FastContext) -> str:
        return str(await ctx.elicit("sure?", bool))

    return server


async def call(client: ModernClient, tool: str) -> None:
    async with client.asking("tools/call", {"name": tool, "arguments": {}}) as called:
        await called.until(lambda: called.body_ended)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "@replayable" in record.message]


@pytest.mark.parametrize("new_server", [mcpserver, fastmcp])
@pytest.mark.parametrize("streams", [True, False])
async def test_a_tool_that_asks_directly_is_named_once(
    new_server: Any, *, streams: bool, new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    scope = {"extensions": {PLATFORM_EXTENSION: Platform(streams=streams)}}
    client = ModernClient(new_handler(new_server()).app, scope=scope)
    for tool in ("ask", "ask", "marked"):
        await call(client, tool)
    assert [text.split("'")[1] for text in warnings(caplog)] == ["ask"]


async def test_a_tool_that_does_without_an_answer_is_named_too(
    new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    client = ModernClient(new_handler(mcpserver()).app)
    for tool in ("ask_or_not", "failing", "unknown"):
        await call(client, tool)
    assert [text.split("'")[1] for text in warnings(caplog)] == ["ask_or_not"]
