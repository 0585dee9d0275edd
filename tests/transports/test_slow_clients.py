"""Clients that do not read, and keep their connection: nothing waits for them for ever, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.support.client import Client
from tests.support.front import Front, Sent
from tests.support.sse_client import SseClient
from tests.support.talkative import Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless.handshake.get_readers import StreamReader
from tmcp_serverless.http import ClientStream
from tmcp_serverless.http.sse import KEEP_ALIVE

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

MESSAGE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"unread"}}'


@pytest.fixture
def stage() -> Stage:
    return Stage()


class Lazy:
    """A client that reads nothing from the first message on that has this in it."""

    def __init__(self, method: str, text: bytes) -> None:
        self.stalled = asyncio.Event()
        self._method = method
        self._text = text

    async def __call__(self, method: str, message: Sent) -> None:
        if method == self._method and (self.stalled.is_set() or self._text in message.get("body", b"")):
            self.stalled.set()
            await asyncio.Event().wait()


def chatty_server(stage: Stage) -> MCPServer:
    server = MCPServer("chatty", log_level="ERROR")

    @server.tool()
    async def chatty(ctx: Context) -> str:
        for number in range(1, 5):
            await ctx.report_progress(number)
        stage.finished.set()
        return "done"

    return server


def call(tool: str) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "_meta": {"progressToken": "p"}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients that do not read given up soon."""
    monkeypatch.setattr("tmcp_serverless.http.client_stream._PATIENCE_SECONDS", 0.2)


async def everything_is_there(client: Client, last_event_id: str) -> None:
    async with client.listen(last_event_id=last_event_id) as resumed:
        *progress, answer = (await resumed.whole()).messages
    assert [message["params"]["progress"] for message in progress] == [2, 3, 4]
    assert answer["result"]["content"][0]["text"] == "done"


async def test_a_tool_goes_on_though_nobody_reads_and_its_client_finds_everything_when_it_resumes(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    caplog.set_level(logging.INFO)
    app = new_handler(chatty_server(stage)).app
    client = await Client(app).initialize()
    lazy = Client(Front(app, before=Lazy("POST", b'"progress":2')))
    lazy.session = client.session
    exchange = await lazy.post(call("chatty"))
    assert stage.finished.is_set()
    assert "does not read" in caplog.text
    await everything_is_there(client, exchange.ids[-1])


async def test_when_a_streams_time_is_over_nobody_waits_for_its_client_to_read(
    new_handler: NewHandler, stage: Stage
) -> None:
    app = new_handler(chatty_server(stage), defer_seconds=0.1, stream_max_seconds=0.3).app
    client = await Client(app).initialize()
    lazy = Client(Front(app, before=Lazy("POST", b'"progress":2')))
    lazy.session = client.session
    exchange = await lazy.post(call("chatty"))
    await everything_is_there(client, exchange.ids[-1])


async def test_a_process_that_is_drained_does_not_leave_a_tool_waiting_for_its_client(
    new_handler: NewHandler, stage: Stage
) -> None:
    handler = new_handler(chatty_server(stage))
    client = await Client(handler.app).initialize()
    lazy = Lazy("POST", b'"progress":2')
    unread = Client(Front(handler.app, before=lazy))
    unread.session = client.session
    async with unread.send("POST", call("chatty")) as exchange:
        await lazy.stalled.wait()
        await handler.drain()
        await exchange.whole()
    await everything_is_there(client, exchange.ids[-1])


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18"])
async def test_a_host_that_stops_is_not_kept_by_a_client_that_does_not_read(
    new_handler: NewHandler, stage: Stage, version: str
) -> None:
    app = new_handler(talkative_server(stage)).app
    client = await Client(app, version=version).initialize()
    lazy = Lazy("POST", b"never")
    front = Front(app, before=lazy)
    doomed = Client(front, version=version)
    doomed.session = client.session
    exchange = await doomed.send("POST", call("wait")).__aenter__()
    await exchange.count(1)
    lazy.stalled.set()
    assert front.tasks[-1] is not None
    front.tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.whole()


async def test_a_standalone_stream_ends_when_its_time_is_over_though_nobody_reads(
    new_handler: NewHandler, stage: Stage
) -> None:
    handler = new_handler(talkative_server(stage), stream_max_seconds=0.3)
    client = await Client(handler.app).initialize()
    lazy = Client(Front(handler.app, before=Lazy("GET", b"unread")))
    lazy.session = client.session
    async with lazy.listen() as stream:
        await stream.until(lambda: bool(stream.ids))
        await handler.managers.streams.send([client.session or ""], MESSAGE)
        await stream.whole()
    async with client.listen(last_event_id=stream.ids[-1]) as again:
        assert (await again.count(1))[0]["params"]["data"] == "unread"


async def test_an_sse_session_whose_client_does_not_read_ends(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    handler = new_handler(talkative_server(stage))
    async with SseClient(Front(handler.app, before=Lazy("GET", b"unread"))) as client:
        await handler.managers.streams.send([client.id], MESSAGE)
        await client.stream.whole()
    assert await handler.managers.info.load(client.id) is None


async def test_an_sse_session_that_is_deleted_ends_though_its_client_does_not_read(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamReader, "look_seconds", 0.02)
    handler = new_handler(talkative_server(stage))
    lazy = Lazy("GET", KEEP_ALIVE)
    async with SseClient(Front(handler.app, before=lazy)) as client:
        await lazy.stalled.wait()  # In the middle of what keeps the connection alive.
        await handler.managers.info.delete(client.id)
        await handler.managers.streams.delete(client.id)
        await client.stream.whole()


async def test_a_client_that_reads_slowly_is_given_the_time_that_much_to_read_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tmcp_serverless.http.client_stream._PATIENCE_SECONDS", 0.0)

    async def slow(_: Any) -> None:
        await asyncio.sleep(0.1)

    stream = ClientStream(slow)
    for _ in range(2):
        await stream.write(bytes(1024 * 1024))
        assert not stream.gone
    for _ in range(2):
        await stream.write(b"x")
    assert stream.gone


async def test_who_hurries_does_not_wait_for_the_write_that_is_under_way() -> None:
    stuck, gone = asyncio.Event(), asyncio.Event()

    async def never(_: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    stream = ClientStream(never, on_gone=gone.set)
    writing = asyncio.create_task(stream.write(b"x"))
    await stuck.wait()
    stream.hurry(seconds=0.01)
    async with asyncio.timeout(30):
        await writing
    assert stream.gone
    assert gone.is_set()
    stream.hurry()


async def test_who_talks_to_nobody_lets_others_run() -> None:
    async def nowhere(_: Any) -> None:
        raise BrokenPipeError

    stream = ClientStream(nowhere)
    talking = asyncio.create_task(_talk(stream))

    async def found_out() -> bool:
        return stream.gone

    await eventually(found_out)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking


async def _talk(stream: ClientStream) -> None:
    while True:
        await stream.write(b"x")
