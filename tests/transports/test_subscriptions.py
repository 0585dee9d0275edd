"""Subscriptions of the modern era (2026-07-28) across instances: rules J of the checklist, by name."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server.lowlevel import Server
from mcp_types import ListToolsResult, Tool

from tests.support.client import Client
from tests.support.modern import (
    INTERNAL_ERROR,
    SUBSCRIPTION,
    ModernClient,
    error_of,
    methods,
    short_lived,
)
from tests.support.modern_fixtures import client, stage
from tests.support.modern_server import Stage, modern_server
from tests.support.waiting import eventually
from tmcp_serverless import (
    InMemoryEventTopic,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    Notifier,
    PostgresSubscriptionBus,
    SessionManagers,
    create_handler,
)
from tmcp_serverless.modern.client_stream import ModernClientStream
from tmcp_serverless.modern.own_bus import own_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import ASGIApp, Message, Receive, Scope, Send
    from tmcp_serverless.testing.postgres import EmbeddedPostgres

__all__ = ["client", "stage"]


async def test_rule_j1_j2_j3_a_stream_begins_with_the_acknowledgement_and_has_what_was_asked_for(
    client: ModernClient,
) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["note://one"]}
    async with client.listen(id="mine", **wanted) as stream:
        (acknowledged,) = await stream.count(1)
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == wanted
        for what in ("prompts", "note://two", "tools", "resources", "note://one"):
            await client.call("publish", what=what)
        await stream.count(3)
        assert methods(stream)[1:] == ["notifications/tools/list_changed", "notifications/resources/updated"]
        assert {message["params"]["_meta"][SUBSCRIPTION] for message in stream.messages} == {"mine"}


async def test_rule_j4_a_change_on_any_instance_reaches_streams_on_every_instance(
    client: ModernClient,
) -> None:
    async with (
        client.listen(id=1, toolsListChanged=True) as first,
        client.listen(id=2, toolsListChanged=True) as second,
        client.listen(id=3, toolsListChanged=True) as third,
    ):
        for stream in (first, second, third):
            await stream.count(1)
        for _ in range(6):
            await client.call("publish", what="tools")
        for stream in (first, second, third):
            assert len(await stream.count(7)) == 7


async def test_rule_j5_a_stream_ends_with_a_result_before_its_host_does(
    new_handler: NewHandler, stage: Stage
) -> None:
    app = new_handler(modern_server(stage)).app
    async with ModernClient(app, scope=short_lived(2.5)).listen(toolsListChanged=True) as stream:
        await stream.whole()
    assert methods(stream) == ["notifications/subscriptions/acknowledged", "result"]
    assert stream.messages[1]["result"]["_meta"][SUBSCRIPTION] == "listening"


async def test_rule_j5_a_stream_ends_with_a_result_when_the_process_is_drained(
    new_handler: NewHandler, stage: Stage
) -> None:
    handler = new_handler(modern_server(stage))
    async with ModernClient(handler.app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await handler.drain()
        await stream.whole()
    assert methods(stream)[-1] == "result"


async def test_rule_j5_a_stream_that_is_being_opened_when_the_process_is_drained_ends_too(
    stage: Stage,
) -> None:
    class Slow(InMemoryEventTopic):
        def __init__(self) -> None:
            super().__init__()
            self.watching, self.go_on = asyncio.Event(), asyncio.Event()

        @asynccontextmanager
        async def watch(self, controller: Any) -> AsyncGenerator[None]:
            self.watching.set()
            await self.go_on.wait()
            async with super().watch(controller):
                yield

    topic = Slow()
    managers = SessionManagers(
        streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager(), events=topic
    )
    handler = create_handler(modern_server(stage), session_manager=managers)
    async with ModernClient(handler.app).listen(toolsListChanged=True) as stream:
        await topic.watching.wait()
        await handler.drain()
        topic.go_on.set()
        await stream.whole()
    assert methods(stream) == ["notifications/subscriptions/acknowledged", "result"]
    await handler.aclose()


def unhurried(_: ModernClientStream) -> None:
    """Wait for the client as long as ever."""


def unread(app: ASGIApp) -> ASGIApp:
    """Return the application as a client sees it that reads the head of the answer, and nothing more."""

    async def half_read(scope: Scope, receive: Receive, send: Send) -> None:
        async def blocked(message: Message) -> None:
            if message["type"] != "http.response.start":
                await asyncio.Event().wait()
            await send(message)

        await app(scope, receive, blocked)

    return half_read


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "cannot end"])
async def test_a_stream_that_is_not_read_gives_its_place_to_another_one_when_it_has_to_end(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    server = modern_server(stage)
    monkeypatch.setattr(own_handler(server), "_max_subscriptions", 1)
    if not ends:
        monkeypatch.setattr(ModernClientStream, "hurry", unhurried)
    handler = new_handler(server)
    app = handler.app
    async with ModernClient(unread(app), scope=short_lived(3)).listen(toolsListChanged=True) as held:
        await held.begun()
        await (
            handler.notifier.tools_changed()
        )  # It waits behind the acknowledgement, and its handler with it.

        async def has_a_place() -> bool:
            async with ModernClient(app).listen(toolsListChanged=True) as another:
                (answer,) = await another.count(1)
                return answer.get("method") == "notifications/subscriptions/acknowledged"

        await eventually(has_a_place)
        if ends:
            await held.whole()  # By itself, for its client does not go.
        else:
            assert not held.ended


async def test_row_13_a_stream_that_cannot_hear_is_a_503_until_the_store_is_back(
    own_postgres: EmbeddedPostgres, stage: Stage
) -> None:
    dsn = own_postgres.dsn
    await asyncio.to_thread(own_postgres.stop_immediately)
    handler = create_handler(modern_server(stage), database_url=dsn)
    client = ModernClient(handler.app)
    async with client.listen(id="mine", toolsListChanged=True) as refused:
        await refused.whole()
    assert error_of(refused) == (503, INTERNAL_ERROR)
    assert refused.headers["retry-after"] == "1"
    assert refused.messages[0]["id"] == "mine"
    await asyncio.to_thread(own_postgres.start)
    async with client.listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await handler.notifier.tools_changed()
        assert len(await stream.count(2)) == 2
    await handler.aclose()


async def test_a_stream_that_cannot_be_opened_without_tables_tells_only_the_log_why(
    empty_database_url: str, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    handler = create_handler(modern_server(stage), database_url=empty_database_url, create_tables=False)
    async with ModernClient(handler.app).listen(toolsListChanged=True) as refused:
        await refused.whole()
    assert error_of(refused) == (503, INTERNAL_ERROR)
    assert refused.headers["retry-after"] == "5"
    wrong = "The server is not configured rightly; its log says what to change"
    assert refused.messages[0]["error"] == {"code": INTERNAL_ERROR, "message": wrong}
    assert "answered 503: the tables of tmcp_serverless are missing" in caplog.text
    await handler.aclose()


async def test_rule_j5_a_stream_that_asks_for_nothing_ends_at_once(client: ModernClient) -> None:
    for wanted in ({}, {"toolsListChanged": False, "resourceSubscriptions": []}):
        async with client.listen(**wanted) as stream:
            await stream.whole()
        assert methods(stream) == ["notifications/subscriptions/acknowledged", "result"]


async def test_where_answers_are_delivered_whole_a_stream_waits_for_a_while(
    new_handler: NewHandler, stage: Stage
) -> None:
    handler = new_handler(modern_server(stage), buffered_wait_seconds=0.3)
    async with ModernClient(handler.app, scope=short_lived(60, streams=False)).listen(
        toolsListChanged=True
    ) as stream:
        await stream.count(1)
        await handler.notifier.tools_changed()
        await stream.whole()
    assert methods(stream)[1:] == ["notifications/tools/list_changed", "result"]


async def test_the_public_notifier_reaches_both_eras_each_client_once(
    new_handler: NewHandler, stage: Stage
) -> None:
    one, two, three = (new_handler(modern_server(stage)) for _ in range(3))
    legacy = await Client(one.app).initialize()
    await legacy.result("resources/subscribe", {"uri": "note://one"})
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
        "resourceSubscriptions": ["note://one"],
    }
    async with legacy.listen() as old, ModernClient(two.app).listen(**wanted) as new:
        await old.begun()
        await new.count(1)
        await three.notifier.tools_changed()
        await three.notifier.prompts_changed()
        await three.notifier.resources_changed()
        await three.notifier.resource_updated("note://one")
        await three.notifier.resource_updated("note://two")
        await three.notifier.tools_changed()
        expected = sorted(
            [
                "notifications/tools/list_changed",
                "notifications/prompts/list_changed",
                "notifications/resources/list_changed",
                "notifications/resources/updated",
                "notifications/tools/list_changed",
            ]
        )
        await old.count(5)
        await new.count(6)
        await asyncio.sleep(0.3)  # Nothing more comes: that has to be given time to be wrong.
        assert sorted(methods(old)) == expected
        assert sorted(methods(new)[1:]) == expected


async def test_a_publish_is_one_row_however_many_streams_listen(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    apps = [new_postgres_handler(modern_server(stage)).app for _ in range(2)]
    client = ModernClient(*apps)
    connection = await asyncpg.connect(database_url)
    try:
        streams = [client.listen(id=number, toolsListChanged=True) for number in range(10)]
        for stream in streams:
            await stream.__aenter__()
        for stream in streams:
            await stream.count(1)
        before = await connection.fetchval("SELECT count(*) FROM tmcp_messages")
        await client.call("publish", what="tools")
        # Committed when the tool has returned.
        assert await connection.fetchval("SELECT count(*) FROM tmcp_messages") == before + 1
        for stream in streams:
            assert len(await stream.count(2)) == 2
            await stream.__aexit__(None, None, None)
    finally:
        await connection.close()


async def test_nothing_listens_when_the_last_stream_has_gone(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    app = new_postgres_handler(modern_server(stage)).app
    connection = await asyncpg.connect(database_url)
    listening = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~* 'listen'"
    )
    try:
        for _ in range(2):
            async with ModernClient(app).listen(toolsListChanged=True) as stream:
                await stream.count(1)
                assert await connection.fetchval(f"{listening} AND pid <> pg_backend_pid()") == 1

            async def nobody() -> bool:
                return await connection.fetchval(f"{listening} AND pid <> pg_backend_pid()") == 0

            await eventually(nobody)
    finally:
        await connection.close()


async def test_a_stream_hears_on_after_its_connection_was_lost(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    apps = [new_postgres_handler(modern_server(stage)).app for _ in range(2)]
    client = ModernClient(*apps)
    connection = await asyncpg.connect(database_url)
    try:
        async with client.listen(toolsListChanged=True) as stream:
            await stream.count(1)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            async with Notifier(database_url) as notifier:
                await notifier.tools_changed()
            assert len(await stream.count(2)) == 2
    finally:
        await connection.close()


async def test_listening_polls_where_listen_does_not_deliver(database_url: str, stage: Stage) -> None:
    handlers = [
        create_handler(modern_server(stage), database_url=database_url, doorbell="poll") for _ in range(2)
    ]
    client = ModernClient(*(handler.app for handler in handlers))
    try:
        async with client.listen(toolsListChanged=True, resourceSubscriptions=["note://one"]) as stream:
            await stream.count(1)
            await client.call("publish", what="tools")
            await client.call("publish", what="note://one")
            assert len(await stream.count(3)) == 3
    finally:
        for handler in handlers:
            await handler.aclose()


async def test_a_bus_may_be_passed_by_hand(database_url: str, stage: Stage) -> None:
    buses = [PostgresSubscriptionBus(database_url) for _ in range(2)]
    servers = [modern_server(stage, subscriptions=bus) for bus in buses]
    handlers = [create_handler(server, database_url=database_url) for server in servers]
    client = ModernClient(*(handler.app for handler in handlers))
    try:
        async with client.listen(toolsListChanged=True) as stream:
            await stream.count(1)
            await client.call("publish", what="tools")
            await client.call("publish", what="tools")
            assert len(await stream.count(3)) == 3
    finally:
        for closable in (*handlers, *buses):
            await closable.aclose()


async def test_a_server_that_wants_no_subscriptions_has_none(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(new_handler(modern_server(stage, subscriptions=False)).app)
    assert error_of(await client.ask("subscriptions/listen", {"notifications": {}})) == (404, -32601)
    assert not (await client.result("server/discover"))["capabilities"]["tools"].get("listChanged")


async def test_a_lowlevel_server_without_a_handler_has_no_subscriptions(new_handler: NewHandler) -> None:
    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="x", input_schema={"type": "object"})])

    client = ModernClient(new_handler(Server("plain", on_list_tools=list_tools)).app)
    assert error_of(await client.ask("subscriptions/listen", {"notifications": {}})) == (404, -32601)
    assert len((await client.result("tools/list"))["tools"]) == 1
