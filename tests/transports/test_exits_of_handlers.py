"""Handlers that exit, in every way, part, protocol era and kind of server: an error of the one message."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import EmptyResult, NotificationParams, PingRequest

from tests.support.client import Client
from tests.support.exiting import WAYS, exiting_fast_server, exiting_server
from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

INTERNAL_ERROR = -32603
SERVERS = {"MCPServer": exiting_server, "FastMCP": exiting_fast_server}


def requests(way: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a request to each part that runs a server's own code."""
    in_threads: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": "leave_thread", "arguments": {"way": way}}),
        ("resources/read", {"uri": f"thread://{way}"}),
        ("prompts/get", {"name": "ask_thread", "arguments": {"way": way}}),
    ]
    return [
        # A thread's `GeneratorExit` closes the coroutines that wait for it: docs/limits.md.
        *([] if way == "generator" else in_threads),
        ("tools/call", {"name": "leave", "arguments": {"way": way}}),
        (
            "tools/call",
            {"name": "report_and_leave", "arguments": {"way": way}, "_meta": {"progressToken": 1}},
        ),
        ("resources/read", {"uri": f"note://{way}"}),
        ("prompts/get", {"name": "ask", "arguments": {"way": way}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "way", "value": way}},
        ),
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
async def test_over_streamable_http_the_answer_is_an_error(server: str, way: str) -> None:
    app = create_handler(SERVERS[server](), database_url="").app
    for version in ("2025-06-18", "2025-11-25"):
        client = await Client(app, version=version).initialize()
        for method, params in requests(way):
            exchange = await client.ask(method, params)
            assert exchange.status == 200
            assert exchange.messages[-1]["error"]["code"] == INTERNAL_ERROR, (method, params)
        assert await client.call("fine") == "fine"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
async def test_at_2026_07_28_the_answer_is_an_error(server: str, way: str) -> None:
    client = ModernClient(create_handler(SERVERS[server](), database_url="").app)
    for method, params in requests(way):
        exchange = await client.ask(method, params)
        assert exchange.messages[-1]["error"]["code"] == INTERNAL_ERROR, (method, params)
    assert (await client.call("fine"))["content"][0]["text"] == "fine"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
async def test_over_http_and_sse_the_answer_is_an_error_and_the_stream_goes_on(server: str, way: str) -> None:
    app = create_handler(SERVERS[server](), database_url="").app
    async with SseClient(app) as client:
        await client.initialize()
        for method, params in requests(way):
            answer = await client.answer(method, params)
            assert answer["error"]["code"] == INTERNAL_ERROR, (method, params)
        assert (await client.result("tools/call", {"name": "fine"}))["content"][0]["text"] == "fine"


@pytest.fixture(params=[Client, SseClient])
async def new_client(request: pytest.FixtureRequest) -> AsyncGenerator[Callable[..., Any]]:
    """A function that initializes a client of either transport with a server."""
    opened: list[SseClient] = []

    async def new(server: Any) -> Any:
        client = request.param(create_handler(server, database_url="").app)
        if isinstance(client, SseClient):
            opened.append(await client.__aenter__())
        return await client.initialize()

    yield new
    for each in opened:
        await each.__aexit__(None, None, None)


@pytest.mark.parametrize("way", WAYS)
async def test_a_notification_handler_that_exits_is_logged(
    new_client: Callable[..., Any], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    server: Server[Any] = Server("notified")

    async def changed(_ctx: Any, _params: Any) -> None:
        WAYS[way]()

    server.add_notification_handler("notifications/roots/list_changed", NotificationParams, changed)
    client = await new_client(server)
    with caplog.at_level(logging.ERROR):
        assert (await client.notify("notifications/roots/list_changed")).status == 202
        async with asyncio.timeout(30):
            while "notifications/roots/list_changed" not in caplog.text:
                await asyncio.sleep(0.01)
    assert await client.result("ping") == {}


@pytest.mark.parametrize("way", WAYS)
async def test_a_progress_callback_that_exits_leaves_its_request_waiting_for_the_answer(way: str) -> None:
    server = MCPServer("asking", log_level="CRITICAL")
    heard = asyncio.Event()

    @server.tool()
    async def question(ctx: Context) -> str:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            del progress, total, message
            heard.set()
            WAYS[way]()

        await ctx.session.send_request(PingRequest(), EmptyResult, progress_callback=on_progress)
        return "answered"

    client = await Client(create_handler(server, database_url="").app).initialize()
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "question"}}
    async with client.send("POST", call) as exchange:
        ping = (await exchange.count(1))[0]
        token = ping["params"]["_meta"]["progressToken"]
        await client.notify("notifications/progress", {"progressToken": token, "progress": 1})
        async with asyncio.timeout(30):
            await heard.wait()
        await client.post({"jsonrpc": "2.0", "id": ping["id"], "result": {}})
        await exchange.whole()
    assert exchange.messages[-1]["result"]["content"][0]["text"] == "answered"
