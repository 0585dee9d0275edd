"""How an answer ends: once, whole, and whatever comes at the same moment."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.support.client import Client
from tests.support.front import Front, Sent
from tests.support.talkative import Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless.handshake.addresses import inbox_of, request_name
from tmcp_serverless.handshake.post_response import PostResponse

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler
    from tmcp_serverless import Handler


@pytest.fixture
def stage() -> Stage:
    return Stage()


def call(tool: str, *, id: Any = 7) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "_meta": {"progressToken": "p"}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


class Closing:
    """Holds requests up when they have been answered, and give their inbox back."""

    def __init__(self, handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        release = handler.managers.streams.release

        async def held(id: str, controller: Any) -> None:
            if "/in." in id:
                self.begun.set()
                await self.go_on.wait()
            await release(id, controller)

        monkeypatch.setattr(handler.managers.streams, "release", held)


async def listening(handler: Handler, client: Client) -> None:
    """Wait until request 7 has its inbox."""

    async def held() -> bool:
        return await handler.managers.streams.has(inbox_of(client.session or "", request_name(7)))

    await eventually(held)


async def test_draining_leaves_an_answer_alone_that_has_ended(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    closing = Closing(handler, monkeypatch)
    front = Front(handler.app)
    client = await Client(front).initialize()
    async with client.send("POST", call("wait")) as exchange:
        await listening(handler, client)
        stage.go_on.set()
        await closing.begun.wait()
        assert exchange.body_ended
        await handler.drain()
        closing.go_on.set()
        assert "result" in (await exchange.whole()).messages[-1]
    assert front.refused == []


async def test_a_client_that_does_not_read_does_not_keep_others_from_being_drained(
    new_handler: NewHandler, stage: Stage
) -> None:
    server = talkative_server(stage)
    stalled = asyncio.Event()

    @server.tool()
    async def chatty(ctx: Context) -> str:
        while True:
            await ctx.report_progress(1)

    async def stall(method: str, message: Sent) -> None:
        if method == "POST" and b"progress" in message.get("body", b""):
            stalled.set()
            await asyncio.Event().wait()

    handler = new_handler(server)
    front = Front(handler.app, before=stall)
    lazy = await Client(front).initialize()
    reader = await Client(handler.app).initialize()
    waiting = await lazy.send("POST", call("chatty")).__aenter__()
    await stalled.wait()
    exchanges = [await reader.send("POST", call("wait", id=number)).__aenter__() for number in range(4)]
    for exchange in exchanges:
        await exchange.count(1)
    async with asyncio.timeout(30):
        await handler.drain()
    assert all(exchange.body_ended for exchange in exchanges)
    stage.go_on.set()
    for exchange in exchanges:
        await exchange.whole()
    assert front.tasks[-1] is not None
    front.tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.whole()


async def test_a_host_that_stops_behind_the_answer_gets_no_second_one_and_leaves_no_inbox(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    closing = Closing(handler, monkeypatch)
    append, stored = handler.managers.streams.append, list[str]()

    async def noted(id: str, data: str, **options: Any) -> str | None:
        stored.append(data)
        return await append(id, data, **options)

    monkeypatch.setattr(handler.managers.streams, "append", noted)
    front = Front(handler.app)
    client = await Client(front).initialize()
    exchange = await client.send("POST", call("wait")).__aenter__()
    await listening(handler, client)
    stage.go_on.set()
    await closing.begun.wait()
    assert front.tasks[-1] is not None
    front.tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.whole()
    closing.go_on.set()

    async def let_go() -> bool:
        return not await handler.managers.streams.has(inbox_of(client.session or "", request_name(7)))

    await eventually(let_go)
    events = [json.loads(data) for data in stored if data]
    assert [event.get("method", "answer") for event in events] == [
        "notifications/progress",
        "notifications/progress",
        "answer",
    ]
    async with client.listen(last_event_id=exchange.ids[0]) as resumed:
        assert (await resumed.whole()).messages == events


async def test_an_answer_that_was_stopped_on_its_way_to_the_store_is_stored_all_the_same(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    front = Front(handler.app)
    client = await Client(front).initialize()
    append = handler.managers.streams.append
    storing = asyncio.Event()

    async def stuck(id: str, data: str, **options: Any) -> str | None:
        if '"result"' in data and not storing.is_set():
            storing.set()
            await asyncio.Event().wait()
        return await append(id, data, **options)

    monkeypatch.setattr(handler.managers.streams, "append", stuck)
    exchange = await client.send("POST", call("wait")).__aenter__()
    await exchange.count(1)
    stage.go_on.set()
    await storing.wait()
    assert front.tasks[-1] is not None
    front.tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.whole()
    async with client.listen(last_event_id=exchange.ids[0]) as resumed:
        assert "result" in (await resumed.whole()).messages[-1]


async def test_an_answer_that_waits_for_a_client_that_does_not_read_is_stored_when_the_host_stops(
    new_handler: NewHandler, stage: Stage
) -> None:
    server = talkative_server(stage)
    stalled, says = asyncio.Event(), list[asyncio.Task[None]]()

    @server.tool()
    async def talks(ctx: Context) -> str:
        await ctx.report_progress(1)
        says.append(asyncio.create_task(ctx.report_progress(2)))
        await stage.go_on.wait()
        return "done"

    async def stall(method: str, message: Sent) -> None:
        if method == "POST" and b'"progress":2' in message.get("body", b""):
            stalled.set()
            await asyncio.Event().wait()

    front = Front(new_handler(server).app, before=stall)
    client = await Client(front).initialize()
    exchange = await client.send("POST", call("talks")).__aenter__()
    await stalled.wait()
    stage.go_on.set()
    await asyncio.sleep(0.1)  # The tool returns, and its answer waits behind what is not read.
    assert front.tasks[-1] is not None
    front.tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.whole()
    async with client.listen(last_event_id=exchange.ids[-1]) as resumed:
        assert "result" in (await resumed.whole()).messages[-1]
    await asyncio.gather(*says, return_exceptions=True)


async def test_an_answer_that_has_begun_as_json_does_not_become_a_stream(new_handler: NewHandler) -> None:
    server = MCPServer("slow", log_level="ERROR")

    @server.tool()
    async def slow() -> str:
        await asyncio.sleep(0.2)
        return "done"

    async def wait(method: str, message: Sent) -> None:
        if method == "POST" and message["type"] == "http.response.start":
            await asyncio.sleep(0.5)  # Past the moment in which the answer would become a stream.

    app = new_handler(server, defer_seconds=0.4).app
    client = await Client(app).initialize()
    front = Front(app, before=wait)
    fronted = Client(front)
    fronted.session = client.session
    exchange = await fronted.post(call("slow"))
    assert front.refused == []
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.messages[0]["result"]["content"][0]["text"] == "done"


async def test_what_comes_after_the_end_goes_nowhere() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with PostResponse(send, headers=[], batch=False, new_journal=None) as response:
        await response.answer(b"{}")
        await response.finish()
        await response.emit({"jsonrpc": "2.0", "method": "notifications/progress"})
        await response.close_connection()
        before = asyncio.all_tasks()
        response.keep_alive(after_seconds=0, until_seconds=60)
        async with asyncio.timeout(10):
            await asyncio.gather(*asyncio.all_tasks() - before)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_a_resumed_stream_has_its_answer_though_the_client_reads_slowly(
    new_handler: NewHandler, stage: Stage
) -> None:
    async def wait(method: str, message: Sent) -> None:
        if method == "GET" and message["type"] == "http.response.body":
            await asyncio.sleep(0.1)

    stage.go_on.set()
    client = await Client(Front(new_handler(talkative_server(stage)).app, before=wait)).initialize()
    exchange = await client.post(call("wait"))
    async with client.listen(last_event_id=exchange.ids[1]) as resumed:
        messages = (await resumed.whole()).messages
    assert "result" in messages[-1]
    assert resumed.ids[-1] == exchange.ids[-1]


@pytest.mark.parametrize("id", [99, "x" * 100])
async def test_nobody_comes_back_to_a_stream_that_is_not_kept(
    new_handler: NewHandler, stage: Stage, id: Any
) -> None:
    client = await Client(*(new_handler(talkative_server(stage)).app for _ in range(2))).initialize()
    never = f"{request_name(id)}.000000000000:77.0"
    async with client.listen(last_event_id=never) as resumed:
        message = (await resumed.whole()).messages[-1]
    assert message["id"] == (id if id == 99 else None), "of a long id there is a hash only"
    assert "call again" in message["error"]["message"]
    async with client.listen(last_event_id=resumed.ids[-1]) as again:
        assert (await again.whole()).status == 204


@pytest.mark.parametrize("id", ["r:1.0", "rOTk5:77.0", "hdead:1.0", "rOTk5.0:1.0", "rOTk5.00000000000g:1.0"])
async def test_an_event_id_of_no_form_of_ours_is_400(new_handler: NewHandler, stage: Stage, id: str) -> None:
    client = await Client(new_handler(talkative_server(stage)).app).initialize()
    async with client.listen(last_event_id=id) as refused:
        assert (await refused.whole()).status == 400


async def test_a_stream_that_is_claimed_behind_the_deletion_of_its_session_is_404(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    streams = handler.managers.streams
    create = streams.create

    async def late(id: str, controller: Any, *, after: str | None = None) -> None:
        assert (await client.delete()).status == 200
        await create(id, controller, after=after)

    monkeypatch.setattr(streams, "create", late)
    async with client.listen() as stream:
        assert (await stream.whole()).status == 404
    assert not await streams.has(client.session or "")
    assert await streams.append(client.session or "", "{}", create=False) is None, (
        "its mailbox is not there again"
    )
