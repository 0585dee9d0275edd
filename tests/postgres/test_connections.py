"""How long connections are held: by frozen processes, between requests, and while nobody streams."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server import MCPServer
from mcp.shared.subscriptions import ToolsListChanged

from tests.postgres.test_doorbell import listeners
from tests.postgres.test_streams import pgbouncer
from tests.support import frozen
from tests.support.activity import connections
from tests.support.client import Client
from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless import (
    ConfigurationError,
    Database,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    PostgresSubscriptionBus,
    SessionManagers,
)
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler

__all__ = ["pgbouncer"]

BUFFERED = {"extensions": {PLATFORM_EXTENSION: Platform(streams=False)}}


async def setting(connection: asyncpg.Connection, name: str) -> str:
    try:
        return str(await connection.fetchval("SELECT current_setting($1)", name))
    finally:
        await connection.close()


async def test_the_database_drops_what_a_frozen_process_holds(database_url: str) -> None:
    command = [sys.executable, "-m", frozen.__name__, database_url, "1"]
    with subprocess.Popen(  # noqa: ASYNC220  # it is short, and nothing else runs here
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "holding\n"
        assert len(await connections(database_url)) == 3
        process.send_signal(signal.SIGSTOP)

        async def none_left() -> bool:
            return not await connections(database_url)

        await eventually(none_left)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "answered\n", "it does not notice"
        process.stdin.close()
        assert process.stderr.read() == ""


async def test_every_connection_is_given_an_idle_time_unless_it_is_switched_off(database_url: str) -> None:
    assert await setting(await Database(database_url).connect(), "idle_session_timeout") == "1min"
    half = Database(database_url, idle_seconds=0.5)
    assert await setting(await half.connect(), "idle_session_timeout") == "500ms"
    never = Database(database_url, idle_seconds=0)
    assert await setting(await never.connect(), "idle_session_timeout") == "0"


async def test_a_connection_that_is_to_listen_has_12_seconds_from_its_first_moment(database_url: str) -> None:
    # Set by a statement, it was 60 s for a process that was frozen before that.
    assert await setting(await Database(database_url).connect(listen=True), "idle_session_timeout") == "12s"
    never = Database(database_url, idle_seconds=0)
    assert await setting(await never.connect(listen=True), "idle_session_timeout") == "12s"


async def test_every_connection_asks_the_server_to_give_up_who_has_vanished(database_url: str) -> None:
    database = Database(database_url)
    assert await setting(await database.connect(), "tcp_user_timeout") == "12000"
    assert await setting(await database.connect(), "tcp_keepalives_idle") == "6"
    assert await setting(await database.connect(), "tcp_keepalives_interval") == "3"


async def test_a_pooler_that_refuses_the_setting_is_used_without_it(
    pgbouncer: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(pgbouncer)
    with caplog.at_level("INFO"):
        for _ in range(3):
            assert await setting(await database.connect(), "idle_session_timeout") == "0"
    said = [record.getMessage() for record in caplog.records]
    assert said[0].endswith("unsupported startup parameter: idle_session_timeout")
    assert len(said) == len(set(said)) <= 4, "once, not at each connection"


async def test_a_pooler_that_refuses_what_was_asked_for_is_a_wrong_setting(pgbouncer: str) -> None:
    database = Database(pgbouncer, server_settings={"synchronous_commit": "off"})
    with pytest.raises(ConfigurationError, match="unsupported startup parameter"):
        await database.connect()


async def test_a_setting_that_the_server_does_not_know_is_a_wrong_setting(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="sslmod"):
        await Database(f"{database_url}?sslmod=require").connect()


@pytest.fixture
def slow_server() -> MCPServer:
    server = small_server()

    @server.tool()
    async def slow() -> str:
        # Long enough for the request to open its inbox, and LISTEN.
        await asyncio.sleep(0.5)
        return "done"

    return server


async def requests(client: Client) -> list[Callable[[], Any]]:
    """Return one request of each kind."""
    await client.initialize()

    async def get() -> None:
        async with client.listen() as stream:
            await stream.whole()

    return [
        lambda: client.result("ping"),
        lambda: client.call("slow"),
        lambda: client.call("talk"),
        get,
        lambda: client.notify("notifications/cancelled", {"requestId": 77}),
        lambda: client.ask("ping", mcp_session_id="unknown"),
        client.delete,
    ]


async def test_nothing_listens_when_an_invocation_of_lambda_has_returned(
    new_postgres_handler: NewHandler,
    slow_server: MCPServer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"
    )  # The function's name would change the logs too.
    handler = new_postgres_handler(slow_server, database_connections=1, buffered_wait_seconds=0.3)
    for request in await requests(Client(handler.app, scope=BUFFERED)):
        await request()
        assert len(await connections(database_url)) == 1, "the one for statements, and none beside it"


async def test_nothing_is_connected_when_an_invocation_has_returned_where_that_is_asked_for(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    handler = new_postgres_handler(slow_server, keep_connections=False, buffered_wait_seconds=0.3)
    client = Client(handler.app, scope=BUFFERED)
    for request in await requests(client):
        await request()
        assert await connections(database_url) == []
    client.path, client.session = "/readyz", None
    async with client.send("GET") as exchange:
        await exchange.whole()
    assert (exchange.status, await connections(database_url)) == (200, [])


async def test_connections_stay_while_another_request_is_under_way(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    handler = new_postgres_handler(slow_server, keep_connections=False)
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.until(lambda: stream.status == 200)
        await client.result("ping")
        assert await connections(database_url)
    assert await connections(database_url) == []


async def test_a_handler_keeps_its_connection_otherwise(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    client = await Client(new_postgres_handler(slow_server).app).initialize()
    await client.result("ping")
    assert len(await connections(database_url)) == 1


async def test_requests_of_a_process_that_goes_on_running_listen_on_one_connection(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    client = await Client(new_postgres_handler(slow_server).app).initialize()
    found: set[int] = set()
    for _ in range(3):
        await client.call("slow")
        found.update(await listeners(database_url))
    assert len(found) == 1

    async def is_closed() -> bool:
        return not await listeners(database_url)

    await eventually(is_closed)


async def test_a_database_that_was_given_is_closed_by_who_made_it(database_url: str) -> None:
    async with Database(database_url, size=1) as database:
        async with (
            PostgresStreamSessionManager(database) as streams,
            PostgresInfoSessionManager(database) as info,
            PostgresSubscriptionBus(database) as bus,
        ):
            await streams.send(None, "x")
            await info.get_log_level("s")
            await bus.publish(ToolsListChanged())
        assert len(await connections(database_url)) == 1
    await none_is_left(database_url)
    shared = Database(database_url, size=1)
    managers = SessionManagers(
        streams=PostgresStreamSessionManager(shared),
        info=PostgresInfoSessionManager(shared),
        resources=(shared,),
    )
    async with managers:
        await managers.streams.send(None, "x")
    await none_is_left(database_url)


async def test_a_handler_closes_what_it_has_opened(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    handler = new_postgres_handler(slow_server)
    client = await Client(handler.app).initialize()
    await client.call("slow")
    await handler.aclose()
    await none_is_left(database_url)


async def none_is_left(dsn: str) -> None:
    async def is_closed() -> bool:
        return not await connections(dsn)

    await eventually(is_closed)


async def test_nothing_is_connected_after_an_event_that_is_no_request(
    new_postgres_handler: NewHandler, slow_server: MCPServer, database_url: str
) -> None:
    handler = new_postgres_handler(slow_server, keep_connections=False)

    @handler.on_event
    async def every_hour(_event: Any, _context: Any) -> int:  # pyright: ignore[reportUnusedFunction]
        await handler.notifier.tools_changed()
        assert await connections(database_url)
        return await handler.sweep(limit=10)

    assert await handler.handle_event({}, None) == 0
    assert await connections(database_url) == []
