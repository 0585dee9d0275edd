"""A store that is out of reach while a request runs: afterwards it is found, and hears, as before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server.lowlevel import Server
from mcp_types import NotificationParams

from tests.support.client import Client
from tests.support.fixtures import postgres_managers
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless import StoreUnavailableError, create_handler
from tmcp_serverless.transports.addresses import inbox_of, request_name

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler
    from tmcp_serverless import Handler
    from tmcp_serverless.testing.postgres import EmbeddedPostgres


@pytest.fixture
def stage() -> Stage:
    return Stage()


def call(tool: str, *, id: Any = 7) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "_meta": {"progressToken": "p"}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


async def is_heard(handler: Handler, client: Client, *, id: Any = 7) -> None:
    """Wait until somebody holds the request's inbox."""

    async def held() -> bool:
        try:
            return await handler.managers.streams.has(inbox_of(client.session or "", request_name(id)))
        except StoreUnavailableError:
            return False

    await eventually(held)


async def test_a_request_that_cannot_listen_at_first_is_heard_of_later(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    streams = handler.managers.streams
    create, refused = streams.create, asyncio.Event()

    async def shaky(id: str, controller: Any, *, after: str | None = None) -> None:
        if "/in." in id and not refused.is_set():
            refused.set()
            raise StoreUnavailableError("out of reach for a moment")
        await create(id, controller, after=after)

    monkeypatch.setattr(streams, "create", shaky)
    async with client.send("POST", call("quiet")) as exchange:
        await refused.wait()
        await is_heard(handler, client)
        assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
        assert (await exchange.whole()).messages[-1]["error"]["code"] == -32800


async def test_a_session_that_ends_while_its_request_cannot_listen_ends_the_request(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    streams = handler.managers.streams
    create, refused, back = streams.create, asyncio.Event(), asyncio.Event()

    async def away(id: str, controller: Any, *, after: str | None = None) -> None:
        if "/in." in id and not back.is_set():
            refused.set()
            raise StoreUnavailableError("out of reach")
        await create(id, controller, after=after)

    monkeypatch.setattr(streams, "create", away)
    async with client.send("POST", call("quiet")) as exchange:
        await refused.wait()
        assert (await client.delete()).status == 200
        back.set()
        assert (await exchange.whole()).messages[-1]["error"]["code"] == -32800


async def test_a_request_outlives_an_outage_longer_than_its_lease(
    own_postgres: EmbeddedPostgres, stage: Stage
) -> None:
    handlers = [
        create_handler(
            talkative_server(stage),
            session_manager=postgres_managers(
                own_postgres.dsn, streams={"lease_seconds": 1.0, "heartbeat_seconds": 0.3}
            ),
            retry_milliseconds=10,
        )
        for _ in range(2)
    ]
    running, other = (Client(handler.app) for handler in handlers)
    await running.initialize(capabilities=CAPABILITIES)
    other.session = running.session
    async with (
        running.send("POST", call("wait")) as exchange,
        running.send("POST", call("favourite", id="asks")) as asking,
        running.listen() as stream,
    ):
        await exchange.count(1)
        question = (await asking.count(1))[0]
        await is_heard(handlers[1], other)
        await is_heard(handlers[1], other, id="asks")
        connection = await asyncpg.connect(own_postgres.dsn)
        await connection.execute("CHECKPOINT")  # The server is not durable, and its crash is not the matter.
        await connection.close()
        await asyncio.to_thread(own_postgres.stop_immediately)
        await stream.whole()  # It ends when the store has been away for as long as a lease lasts.
        await asyncio.to_thread(own_postgres.start)
        await is_heard(handlers[1], other)
        await is_heard(handlers[1], other, id="asks")

        posted = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert (await other.post(posted)).status == 202
        async with other.listen(last_event_id=asking.ids[-1]) as answered:
            result = (await answered.whole()).messages[-1]["result"]
        assert result["content"][0]["text"] == "decline "

        async with other.listen(last_event_id=exchange.ids[-1]) as resumed:
            assert (await other.notify("notifications/cancelled", {"requestId": 7})).status == 202
            assert (await resumed.whole()).messages[-1]["error"]["code"] == -32800
    for handler in handlers:
        await handler.aclose()


async def test_a_notifications_handler_that_lasts_does_not_listen_until_it_asks(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def curious(ctx: Any, _params: NotificationParams) -> None:
        await stage.go_on.wait()
        stage.seen.append(await ctx.session.list_roots())

    server: Server[Any] = Server("curious")
    server.add_notification_handler("notifications/roots/list_changed", NotificationParams, curious)
    handler = new_handler(server)
    client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
    streams = handler.managers.streams
    create, opened = streams.create, list[str]()

    async def noted(id: str, controller: Any, *, after: str | None = None) -> None:
        opened.append(id)
        await create(id, controller, after=after)

    monkeypatch.setattr(streams, "create", noted)
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    async with client.listen() as stream:
        await stream.begun()
        async with client.send("POST", changed):
            await asyncio.sleep(0.3)  # Longer than a request may last that does not listen.
            assert opened == [client.session]
            stage.go_on.set()
            question = (await stream.count(1))[0]
            await client.post({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}})
    assert len(stage.seen) == 1
    assert len(opened) == 2
