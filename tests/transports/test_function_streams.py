"""Streams on functions have a share of the sandboxes: beyond it they end at once, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.client import Client, initialize_message
from tests.support.modern import ModernClient, short_lived
from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler, NewManagers

pytestmark = pytest.mark.anyio

SHARE = 2
SHORT_SECONDS = 30.0
LASTS_SECONDS = 1.2
"""Longer than a stream beyond the share lasts."""


def function() -> dict[str, Any]:
    """Return the scope of a function with a minute left."""
    return short_lived(60)


async def lasts(stream: Exchange) -> bool:
    """Return true if the stream does not end by itself."""
    await stream.begun()
    await asyncio.sleep(LASTS_SECONDS)
    return not stream.ended


async def test_beyond_the_share_a_stream_brings_what_there_is_and_ends(
    new_handler: NewHandler, new_managers: NewManagers
) -> None:
    app = new_handler(small_server(), function_streams=SHARE).app
    clients = [await Client(app, scope=function()).initialize() for _ in range(SHARE + 1)]
    late = clients[-1]
    assert late.session is not None
    async with AsyncExitStack() as held:
        for client in clients[:SHARE]:
            await (await held.enter_async_context(client.listen())).begun()
        waiting = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        await new_managers().streams.send([late.session], json.dumps(waiting))
        async with asyncio.timeout(SHORT_SECONDS), late.listen() as stream:
            await stream.whole()
        assert stream.status == 200
        assert waiting in stream.messages
        assert b"retry: 5000" in stream.raw
        async with asyncio.timeout(SHORT_SECONDS), late.listen(last_event_id=stream.ids[-1]) as again:
            await again.whole()
        assert waiting not in again.messages, "it continues behind what the client has had"
        # The session's own stream, whose client may have left without a word, does not count against it.
        async with clients[0].listen() as own:
            assert await lasts(own)


async def test_when_a_stream_has_ended_another_one_lasts(new_handler: NewHandler) -> None:
    app = new_handler(small_server(), function_streams=1).app
    first, second = [await Client(app, scope=function()).initialize() for _ in range(2)]
    async with first.listen() as stream:
        await stream.begun()
    async with second.listen() as stream:
        assert await lasts(stream)


async def test_listen_streams_are_counted_with_the_others(new_handler: NewHandler) -> None:
    app = new_handler(small_server(), function_streams=1).app
    modern, client = ModernClient(app, scope=function()), await Client(app, scope=function()).initialize()
    wanted = {"notifications": {"toolsListChanged": True}}
    async with modern.asking("subscriptions/listen", wanted) as listening:
        await listening.count(1)
        async with asyncio.timeout(SHORT_SECONDS), client.listen() as short:
            await short.whole()
        async with asyncio.timeout(SHORT_SECONDS), modern.asking("subscriptions/listen", wanted) as other:
            await other.whole()
        assert "result" in other.messages[-1], "an orderly end"
        assert not listening.ended
    async with client.listen() as stream:
        assert await lasts(stream)


async def test_http_sse_is_refused_beyond_the_share(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server(), function_streams=0).app, scope=function())
    client.path = "/sse"
    async with asyncio.timeout(SHORT_SECONDS), client.listen() as stream:
        await stream.whole()
    assert (stream.status, stream.headers["retry-after"]) == (429, "5")
    assert "TMCP_FUNCTION_STREAMS" in stream.messages[0]["error"]["message"]


async def test_a_container_has_no_share(new_handler: NewHandler) -> None:
    client = await Client(new_handler(small_server(), function_streams=0).app).initialize()
    async with client.listen() as stream:
        assert await lasts(stream)


SANDBOXES, VISITORS = 4, 4


async def test_visitors_who_leave_without_a_word_leave_room_for_calls(database_url: str) -> None:
    """Each opens a GET at once, as common clients do, and goes: every GET could hold a sandbox a minute."""
    environment = {"TMCP_DATABASE_URL": database_url, "TMCP_FUNCTION_STREAMS": str(SANDBOXES // 2)}
    root = Path(__file__).parents[2]
    kit = Function("tests.hosts.lambda_mcp.handler", root, timeout_seconds=120, environment=environment)
    async with (
        LambdaEmulator(kit, sandboxes=SANDBOXES) as emulator,
        httpx.AsyncClient(base_url=emulator.url, timeout=90) as http,
    ):
        assert [await visit(http) for _ in range(VISITORS)] == [200] * VISITORS

        async def calls_find_room() -> bool:
            answers = await asyncio.gather(*(initialize(http) for _ in range(SANDBOXES // 2)))
            return all(answer.status_code == 200 for answer in answers)

        await eventually(calls_find_room, seconds=20)


async def initialize(http: httpx.AsyncClient) -> httpx.Response:
    accept = {"accept": "application/json, text/event-stream"}
    return await http.post("/mcp", json=initialize_message(), headers=accept)


async def visit(http: httpx.AsyncClient) -> int:
    """Begin a session, open its stream, and leave without a DELETE; return the status of `initialize`."""
    answer = await initialize(http)
    if answer.status_code == 200:
        headers = {"accept": "text/event-stream", "mcp-session-id": answer.headers["mcp-session-id"]}
        async with http.stream("GET", "/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            async for _ in stream.aiter_bytes():
                break
    return answer.status_code
