"""A store that is out of reach while a request runs: afterwards it is found, and hears, as before."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server.lowlevel import Server
from mcp_types import NotificationParams

from tests.support.client import Client
from tests.support.fixtures import postgres_managers
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless import (
    ConfigurationError,
    InMemoryStreamSessionManager,
    StoreUnavailableError,
    create_handler,
)
from tmcp_serverless.handshake.addresses import inbox_of, request_name
from tmcp_serverless.handshake.inbox import Inbox
from tmcp_serverless.sessions import CloseReason, StoredEvent

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
        await handler.managers.aclose()


async def test_what_an_inbox_may_not_have_been_given_is_asked_for_again_when_it_is_opened_again() -> None:
    class Remembering(InMemoryStreamSessionManager):
        asked_for: tuple[str | None, ...] = ()

        async def create(self, id: str, controller: Any, *, after: str | None = None) -> None:
            self.asked_for += (after,)
            await super().create(id, controller, after=after)

    streams = Remembering()
    inbox = Inbox(streams, "s", "r1", began_at=0.0, on_cancelled=lambda: None)
    replies: list[str] = []

    async def reply(request: dict[str, Any]) -> None:
        replies.append(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"n": 1}}))
        await streams.send([inbox_of("s", "r1")], replies[0])

    assert await inbox.request("ping", None, None, reply) == {"n": 1}
    inbox.close(CloseReason.UNAVAILABLE)
    await inbox.open()
    assert streams.asked_for == (None, "1.0")
    await inbox.write([StoredEvent(replies[0], "1.0")])  # It does no harm to hear it twice.
    await inbox.aclose()


async def test_an_answer_whose_reading_was_lost_in_an_outage_is_heard_after_it(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
    write, lost = Inbox.write, asyncio.Event()

    async def losing(inbox: Inbox, events: Any) -> None:
        if lost.is_set():
            await write(inbox, events)
        else:
            # It is read and taken for delivered, but the reply to that never came; and then a lease is over.
            lost.set()
            raise StoreUnavailableError("the reply was lost")

    monkeypatch.setattr(Inbox, "write", losing)
    async with client.send("POST", call("favourite")) as exchange:
        question = (await exchange.count(1))[0]
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        await lost.wait()
        assert (await exchange.whole()).messages[-1]["result"]["content"][0]["text"] == "decline "


async def test_a_request_that_ends_while_its_inbox_is_opened_lets_that_finish_and_leaves_nothing(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    streams = handler.managers.streams
    create, opening, go_on, opened = streams.create, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(id: str, controller: Any, *, after: str | None = None) -> None:
        if "/in." in id:
            opening.set()
            await go_on.wait()
        await create(id, controller, after=after)
        if "/in." in id:
            opened.set()

    monkeypatch.setattr(streams, "create", slow)
    async with client.send("POST", call("quiet")) as exchange:
        await opening.wait()
        stage.go_on.set()
        await exchange.until(lambda: exchange.body_ended)
        go_on.set()
        await exchange.whole()
    assert opened.is_set()
    inbox = inbox_of(client.session or "", request_name(7))
    assert not await streams.has(inbox)
    assert await streams.append(inbox, "{}", create=False) is None, "it has no mailbox any more"


async def test_an_inbox_that_does_not_open_keeps_nobody(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    create, opening = handler.managers.streams.create, asyncio.Event()

    async def never(id: str, controller: Any, *, after: str | None = None) -> None:
        await create(id, controller, after=after)
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(handler.managers.streams, "create", never)
    async with client.send("POST", call("quiet")) as exchange:
        await opening.wait()
        stage.go_on.set()
        await exchange.whole()
    inbox = inbox_of(client.session or "", request_name(7))
    assert not await handler.managers.streams.has(inbox), "what was claimed all the same is given back"


@pytest.mark.parametrize("error", [ConfigurationError, ZeroDivisionError])
async def test_a_request_that_cannot_listen_says_so_in_the_log_and_runs_on(
    new_handler: NewHandler,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()

    async def refuse(*_: Any, **__: Any) -> None:
        raise error("permission denied")

    monkeypatch.setattr(handler.managers.streams, "create", refuse)
    async with client.send("POST", call("quiet")) as exchange:

        async def logged() -> bool:
            return "cannot be cancelled" in caplog.text

        await eventually(logged)
        stage.go_on.set()
        assert "result" in (await exchange.whole()).messages[-1]


async def test_an_inbox_that_cannot_be_given_back_does_not_keep_the_others_of_its_batch(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app, version="2025-03-26").initialize()
    streams = handler.managers.streams
    release, refused = streams.release, list[str]()

    async def shaky(id: str, controller: Any) -> None:
        await release(id, controller)
        if not refused:
            refused.append(id)
            raise ConfigurationError("permission denied")

    async with client.send("POST", [call("quiet", id=number) for number in (1, 2)]) as exchange:
        for number in (1, 2):
            await is_heard(handler, client, id=number)
        monkeypatch.setattr(streams, "release", shaky)
        stage.go_on.set()
        await exchange.whole()
    assert refused
    for number in (1, 2):
        assert not await streams.has(inbox_of(client.session or "", request_name(number)))


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
