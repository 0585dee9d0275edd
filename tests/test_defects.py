"""What went wrong in everybody else's code and must be impossible here: one test, or more, for each row.

The rows are those of the project's list of defects. Rows that the contract suite covers for every manager
(`tmcp_serverless.testing.contracts`) are tested here again from the outside, over HTTP or between processes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server.mcpserver import Context

from tests.support.client import Client, initialize_message
from tests.support.fixtures import postgres_managers
from tests.support.servers import small_server
from tests.support.sse_client import SseClient
from tests.support.waiting import eventually
from tmcp_serverless import (
    Database,
    HttpSseTransport,
    HttpTransport,
    Notifier,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SchemaError,
    SessionRecord,
    TableNames,
    create_handler,
)
from tmcp_serverless.postgres.statements import channel_name
from tmcp_serverless.testing.contracts import RecordingController
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler, NewManagers

RECORD = SessionRecord(
    protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
)
TABLES = [
    "tmcp_sessions",
    "tmcp_session_client_capabilities",
    "tmcp_session_client_info",
    "tmcp_session_log_level",
    "tmcp_session_subscriptions",
]


@asynccontextmanager
async def holder(
    dsn: str, session: str, *, lease: float = 1.0, heartbeat: float = 0.3
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Another process that holds the session's stream."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.holder",
        dsn,
        session,
        str(lease),
        str(heartbeat),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await line(process) == "open"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def fetch(dsn: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


@pytest.mark.parametrize("text", ["it's", "'); NOTIFY x; --", "{}", "żółć\n\r\u2028", "$1", "\\u0000"])
async def test_row_01_a_notification_is_delivered_whatever_its_bytes(
    new_handler: NewHandler, text: str
) -> None:
    first, second = new_handler(small_server()), new_handler(small_server())
    client = await Client(first.app, second.app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        await first.notifier.send([client.session or ""], {"method": "x", "params": {"text": text}})
        assert (await stream.count(1))[0]["params"]["text"] == text


@pytest.mark.parametrize(
    "id", ["'; DROP TABLE tmcp_sessions; --", "a" * 129, "ä", "a b", "/broadcast", "x/y", " "]
)
async def test_row_02_a_crafted_session_id_is_a_404_and_runs_nothing(
    new_postgres_handler: NewHandler, database_url: str, id: str
) -> None:
    handler = new_postgres_handler(small_server())
    client = await Client(handler.app).initialize()
    kept, client.session = client.session, id
    for exchange in (await client.ask("ping"), await client.delete()):
        assert exchange.status == 404
    async with client.listen() as stream:
        assert (await stream.begun()).status == 404
    client.session = kept
    assert await client.result("ping") == {}
    for table in TABLES:
        await fetch(database_url, f"SELECT FROM {table}")


@pytest.mark.parametrize("size", [8_000, 1_000_000, 3_900_000])
async def test_row_03_a_large_message_arrives_whole(new_handler: NewHandler, size: int) -> None:
    handler = new_handler(small_server())
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        await handler.notifier.send(None, {"method": "x", "params": {"text": "x" * size}})
        assert (await stream.count(1))[0]["params"]["text"] == "x" * size
    assert await client.call("echo", text="y" * size) == "y" * size


async def test_row_04_a_session_subscribes_to_as_many_resources_as_it_likes(new_handler: NewHandler) -> None:
    handler, other = new_handler(small_server()), new_handler(small_server())
    client = await Client(handler.app, other.app).initialize()
    for uri in ("a://1", "a://2", "a://3", "a://2"):
        assert await client.result("resources/subscribe", {"uri": uri}) == {}
    async with client.listen() as stream:
        await stream.begun()
        for uri in ("a://1", "a://9", "a://2", "a://3"):
            await other.notifier.resource_updated(uri)
        updates = await stream.count(3)
    assert [update["params"]["uri"] for update in updates] == ["a://1", "a://2", "a://3"]


async def test_row_05_subscriptions_and_level_can_be_read(new_handler: NewHandler) -> None:
    handler = new_handler(small_server())
    client = await Client(handler.app).initialize()
    info = handler.managers.info
    assert await info.get_subscriptions("a://1") == set()
    await client.result("logging/setLevel", {"level": "warning"})
    assert await info.get_log_level(client.session or "") == "warning"


async def test_row_06_deleting_a_session_takes_its_subscriptions_and_no_others(
    new_handler: NewHandler,
) -> None:
    handler = new_handler(small_server())
    first, second = await Client(handler.app).initialize(), await Client(handler.app).initialize()
    for client in (first, second):
        await client.result("resources/subscribe", {"uri": "a://1"})
    assert (await first.delete()).status == 200
    assert await handler.managers.info.get_subscriptions("a://1") == {second.session}


async def test_row_07_a_killed_owner_is_forgotten_and_a_new_stream_does_not_wait_for_that(
    database_url: str,
) -> None:
    async with (
        PostgresStreamSessionManager(database_url, lease_seconds=1, heartbeat_seconds=0.3) as streams,
        holder(database_url, "s") as process,
    ):
        assert await streams.has("s")
        process.kill()
        await process.wait()
        assert await streams.has("s"), "the lease lasts a little longer than its holder"
        controller = RecordingController()
        await streams.create("s", controller)
        await streams.send(["s"], "x")
        assert await controller.count(1) == ["x"]
        async with holder(database_url, "t") as second:
            second.kill()
            await second.wait()

        async def gone() -> bool:
            return not await streams.has("t")

        await eventually(gone)


async def test_row_07_the_lease_lasts_ten_seconds(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.create("s", RecordingController())
        await fetch(database_url, "UPDATE tmcp_sessions SET updated_at = now() - interval '9.5 s'")
        assert await streams.has("s")
        await fetch(database_url, "UPDATE tmcp_sessions SET updated_at = now() - interval '10.1 s'")
        assert not await streams.has("s")


async def test_row_08_after_a_disconnect_the_row_is_gone_and_a_reconnect_works(
    new_postgres_handler: NewHandler, database_url: str
) -> None:
    first, second = new_postgres_handler(small_server()), new_postgres_handler(small_server())
    client = await Client(first.app, second.app).initialize()
    for number in range(3):
        async with client.listen() as stream:
            assert (await stream.begun()).status == 200
            rows = await fetch(database_url, "SELECT FROM tmcp_sessions")
            assert len(rows) == 1
            await first.notifier.send(None, {"method": "x", "params": {"number": number}})
            assert (await stream.count(1))[0]["params"]["number"] == number
        assert await fetch(database_url, "SELECT FROM tmcp_sessions") == []


async def test_row_09_of_two_gets_at_once_one_stays_and_nothing_is_doubled_or_lost(
    new_handler: NewHandler,
) -> None:
    first, second = new_handler(small_server()), new_handler(small_server())
    client = await Client(first.app, second.app).initialize()
    async with client.listen() as one, client.listen() as two:
        await asyncio.gather(one.begun(), two.begun())
        assert (one.status, two.status) == (200, 200)
        for number in range(30):
            await first.notifier.send([client.session or ""], {"method": "x", "params": {"number": number}})

        async def all_there() -> bool:
            return len(one.messages) + len(two.messages) >= 30

        await eventually(all_there)
        numbers = [message["params"]["number"] for message in one.messages + two.messages]
        assert sorted(numbers) == list(range(30))
        # The other one stands by, and is written nothing.
        assert (one.ended, two.ended) == (False, False)


async def test_row_10_no_message_is_lost_after_has_said_yes(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        PostgresStreamSessionManager(database_url) as other,
    ):
        for attempt in range(5):
            controller, id = RecordingController(), f"s{attempt}"
            opening = asyncio.ensure_future(streams.create(id, controller))

            async def live(id: str = id) -> bool:
                return await other.has(id)

            await eventually(live)
            for number in range(100):
                await other.send([id], str(number))
            await opening
            assert await controller.count(100) == [str(number) for number in range(100)]


async def test_row_11_a_paused_owner_whose_row_was_collected_ends_when_it_wakes(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url, lease_seconds=0.2) as streams,
        holder(database_url, "s") as process,
    ):
        process.send_signal(signal.SIGSTOP)

        async def collected() -> bool:
            await streams.sweep()
            return not await fetch(database_url, "SELECT FROM tmcp_sessions")

        await eventually(collected)
        process.send_signal(signal.SIGCONT)
        assert await line(process) == "closed interrupted"


async def test_row_12_a_lost_connection_costs_no_message(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url, heartbeat_seconds=0.3) as streams:
        controller = RecordingController()
        await streams.create("s", controller)
        sent: list[str] = []
        for attempt in range(5):
            await fetch(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'tmcp_serverless%' AND datname = current_database()",
            )
            async with PostgresStreamSessionManager(database_url) as other:
                for number in range(5):
                    sent.append(f"{attempt}.{number}")
                    await other.send(["s"], sent[-1])
        assert await controller.count(len(sent)) == sent
        assert controller.closed is None


async def test_row_12_a_database_that_stays_away_ends_the_stream(own_postgres: EmbeddedPostgres) -> None:
    streams = PostgresStreamSessionManager(own_postgres.dsn, lease_seconds=1, heartbeat_seconds=0.3)
    controller = RecordingController()
    await streams.create("s", controller)
    own_postgres.stop_immediately()
    assert (await controller.end()).value == "unavailable"
    await streams.aclose()


async def test_row_13_a_database_that_is_down_at_the_start_is_a_503_until_it_is_there(
    own_postgres: EmbeddedPostgres,
) -> None:
    own_postgres.stop_immediately()
    handler = create_handler(small_server(), database_url=own_postgres.dsn)
    client = Client(handler.app)
    refused = await client.post(initialize_message())
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    own_postgres.start()
    await client.initialize()
    assert await client.call("add", a=1, b=2) == "3"
    own_postgres.restart()
    assert await client.call("add", a=1, b=2) == "3"
    await handler.aclose()


async def test_row_14_fifty_cold_starts_on_an_empty_database_all_serve(empty_database_url: str) -> None:
    handlers = [
        create_handler(small_server(), database_url=empty_database_url, database_connections=2)
        for _ in range(50)
    ]
    clients = await asyncio.gather(*(Client(handler.app).initialize() for handler in handlers))
    assert len({client.session for client in clients}) == 50
    for handler in handlers:
        await handler.aclose()


async def test_row_15_requests_before_the_schema_wait_for_it_or_fail_clearly(
    empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = create_handler(small_server(), database_url=empty_database_url, create_tables=False)
    with caplog.at_level(logging.ERROR):
        refused = await Client(handler.app).post(initialize_message())
    assert refused.status == 503
    assert "mcp-session-id" not in refused.headers
    assert "tmcp-serverless migrate" in caplog.text
    assert await fetch(empty_database_url, "SELECT FROM pg_tables WHERE tablename LIKE 'tmcp%'") == []
    creating = create_handler(small_server(), database_url=empty_database_url)
    clients = await asyncio.gather(*(Client(creating.app).initialize() for _ in range(10)))
    assert len(clients) == 10
    await Client(handler.app).initialize()
    await handler.aclose()
    await creating.aclose()


async def test_row_16_a_message_that_arrives_while_the_client_disconnects_harms_nobody(
    new_handler: NewHandler,
) -> None:
    handler = new_handler(small_server())
    client = await Client(handler.app).initialize()
    for _ in range(20):
        async with client.listen() as stream:
            await stream.begun()
            sending = [asyncio.ensure_future(handler.notifier.send(None, {"method": "x"})) for _ in range(3)]
            stream.leave()
            await asyncio.gather(*sending)
    assert await client.call("add", a=1, b=1) == "2"


async def test_row_17_time_zones_end_no_session(database_url: str) -> None:
    databases: list[Database] = []

    def managers(zone: str) -> tuple[PostgresStreamSessionManager, PostgresInfoSessionManager]:
        database = Database(database_url, server_settings={"TimeZone": zone})
        databases.append(database)
        return PostgresStreamSessionManager(database), PostgresInfoSessionManager(
            database, idle_seconds=3_600
        )

    (here, here_info), (there, there_info) = managers("America/New_York"), managers("Asia/Tokyo")
    controller = RecordingController()
    await here.create("s", controller)
    await here_info.initialize("s", RECORD)
    assert await there.has("s")
    assert await there.sweep() == 0
    assert await there_info.sweep() == 0
    assert await there_info.load("s") == RECORD
    assert await here.has("s")
    for opened in (here, here_info, there, there_info, *databases):
        await opened.aclose()


async def test_row_18_channels_are_short_and_never_shared() -> None:
    names = {channel_name("t", "s" * length) for length in range(1, 400)}
    assert len(names) == 399
    assert {len(name.encode()) for name in names} == {45}


@pytest.mark.parametrize(
    "name", ["MixedCase", "with-hyphen", 'ta"ble', "żółć", "select", "x" * 63, "Tenant.Sessions"]
)
async def test_row_19_any_identifier_names_a_table(empty_database_url: str, name: str) -> None:
    await fetch(empty_database_url, 'CREATE SCHEMA "Tenant"')
    async with PostgresStreamSessionManager(empty_database_url, table_name=name) as streams:
        controller = RecordingController()
        await streams.create("s", controller)
        await streams.send(["s"], "x")
        assert await controller.count(1) == ["x"]
        assert await streams.has("s")
        await streams.delete("s")
    async with PostgresInfoSessionManager(
        empty_database_url, table_names=TableNames(client_info=f"{name[:40]}-info")
    ) as info:
        await info.initialize("s", RECORD)
        await info.add_subscription("s", "a://1")
        assert await info.load("s") == RECORD
        assert await info.get_subscriptions("a://1") == {"s"}


async def test_row_19_a_name_in_quotes_may_have_dots_and_quotes(empty_database_url: str) -> None:
    async with PostgresStreamSessionManager(empty_database_url, table_name='"x.""y"') as streams:
        await streams.prepare("s")
    [row] = await fetch(empty_database_url, "SELECT count(*) FROM pg_class WHERE relname = 'x.\"y'")
    assert row[0] == 1


async def test_row_20_a_heartbeat_is_one_statement_and_a_broadcast_one_row() -> None:
    with EmbeddedPostgres(durable=False, settings={"log_statement": "all"}) as postgres:
        async with PostgresStreamSessionManager(postgres.dsn, heartbeat_seconds=0.5) as streams:
            controllers = [RecordingController() for _ in range(40)]
            for number, controller in enumerate(controllers):
                await streams.create(f"s{number}", controller)
            before = postgres.log().count("AS lease SET updated_at")

            async def beaten() -> bool:
                return postgres.log().count("AS lease SET updated_at") >= before + 3

            await eventually(beaten)
            log = postgres.log()
            beats = log.count("AS lease SET updated_at") - before
            assert beats < 8, "one statement for each stream would be 40 of them per heartbeat"
            await streams.send(None, "all")
            for controller in controllers:
                assert await controller.count(1) == ["all"]
            assert postgres.log().count("VALUES ('default:/broadcast', 1, ") == 1
            rows = await fetch(postgres.dsn, "SELECT FROM tmcp_messages")
            assert len(rows) == 1


async def test_row_21_metadata_expires_and_is_swept(database_url: str) -> None:
    async def used(ago: str) -> None:
        await fetch(database_url, f"UPDATE tmcp_session_context SET updated_at = now() - interval '{ago}'")

    async with PostgresInfoSessionManager(database_url, idle_seconds=3_600) as info:
        await info.initialize("s", RECORD)
        await info.set_log_level("s", "info")
        await info.add_subscription("s", "a://1")
        await used("59 min")
        assert await info.load("s") is not None
        recent = "SELECT FROM tmcp_session_context WHERE updated_at > now() - interval '30 min'"
        assert len(await fetch(database_url, recent)) == 1, "a session that is used does not expire"
        assert await info.sweep() == 0
        await used("61 min")
        assert await info.get_subscriptions("a://1") == set()
        assert await info.load("s") is None
        assert await info.sweep() == 1
        for table in [*TABLES[1:], "tmcp_session_context"]:
            assert await fetch(database_url, f"SELECT FROM {table}") == []


async def test_row_22_a_session_is_durable_before_it_is_answered(new_postgres_handler: NewHandler) -> None:
    first, second = new_postgres_handler(small_server()), new_postgres_handler(small_server())
    for _ in range(20):
        client = Client(first.app, second.app)
        await client.initialize(capabilities={"sampling": {}})
        record = await second.managers.info.load(client.session or "")
        assert record is not None
        assert record.client_capabilities == {"sampling": {}}
        assert record.initialized


async def test_row_23_an_unknown_session_is_404_and_nothing_is_made(
    new_postgres_handler: NewHandler, database_url: str
) -> None:
    handler = new_postgres_handler(small_server())
    await handler.managers.info.load("warm up")
    client = Client(handler.app)
    client.session = "0123456789abcdef"
    answers = [await client.ask("tools/list"), await client.notify("notifications/initialized")]
    answers.append(await client.delete())
    async with client.listen() as stream:
        answers.append(await stream.begun())
    for exchange in answers:
        assert exchange.status == 404
        assert exchange.messages == [
            {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}
        ]
    for table in [*TABLES[1:], "tmcp_session_context"]:
        assert await fetch(database_url, f"SELECT FROM {table}") == []


async def test_row_27_a_broadcast_over_shared_managers_is_delivered_once(database_url: str) -> None:
    managers = postgres_managers(database_url)
    handlers = [create_handler(small_server(), session_manager=managers) for _ in range(2)]
    clients = [await Client(handler.app).initialize() for handler in handlers]
    async with clients[0].listen() as one, clients[1].listen() as two:
        await one.begun()
        await two.begun()
        await handlers[0].notifier.tools_changed()
        for client in clients:
            await handlers[1].notifier.send([client.session or ""], {"method": "last"})
        for stream in (one, two):
            methods = [message["method"] for message in await stream.count(2)]
            assert sorted(methods) == ["last", "notifications/tools/list_changed"]
    await managers.aclose()


async def test_row_27_both_transports_over_shared_managers_deliver_a_broadcast_once(
    new_managers: NewManagers,
) -> None:
    managers = new_managers()
    http = HttpTransport(small_server(), session_manager=managers)
    sse = HttpSseTransport(small_server(), session_manager=managers)
    newer = await Client(http).initialize()
    async with newer.listen() as stream, SseClient(sse) as older:
        await stream.begun()
        await older.initialize()
        notifier = Notifier(managers)
        for uri in ("note://one", "note://two"):
            await newer.result("resources/subscribe", {"uri": uri})
            await older.result("resources/subscribe", {"uri": uri})
        await notifier.tools_changed()
        await notifier.resource_updated("note://one")
        await notifier.resource_updated("note://two")
        for session in (newer.session or "", older.id):
            await notifier.send([session], {"method": "last"})
        await older.told("last")
        await older.told("notifications/tools/list_changed")
        for messages in (await stream.count(4), older.stream.messages):
            assert sorted(message["method"] for message in messages if "method" in message) == [
                "last",
                *["notifications/resources/updated"] * 2,
                "notifications/tools/list_changed",
            ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[[]]",
        b"{",
        b"\xff\xfe",
        b'"text"',
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":[],"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}',
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b"[" * 9_000,
    ],
)
async def test_row_28_garbage_is_a_400_and_nothing_dies(
    new_handler: NewHandler, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    handler = new_handler(small_server())
    client = await Client(handler.app).initialize()
    with caplog.at_level(logging.ERROR):
        exchange = await client.post(body)
    assert exchange.status == 400
    assert exchange.messages[0]["error"]["code"] in (-32700, -32602, -32600)
    assert caplog.records == []
    assert await client.call("add", a=1, b=2) == "3"


async def test_row_28_a_late_log_is_dropped(new_handler: NewHandler) -> None:
    server, late = small_server(), asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    @server.tool()
    async def hasty(ctx: Context) -> str:
        async def log_later() -> None:
            await late.wait()
            await ctx.info("too late")  # pyright: ignore[reportDeprecated]

        tasks.append(asyncio.create_task(log_later()))
        return "done"

    client = await Client(new_handler(server).app).initialize()
    assert await client.call("hasty") == "done"
    late.set()
    await asyncio.gather(*tasks)
    assert await client.call("add", a=1, b=2) == "3"


async def test_row_33_a_listener_whose_backend_is_killed_hears_what_comes_after(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        PostgresStreamSessionManager(database_url) as other,
    ):
        controller = RecordingController()
        await streams.create("s", controller)
        killed = await fetch(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'tmcp_serverless listen'",
        )
        assert killed
        await other.send(["s"], "x")
        assert await controller.count(1) == ["x"]


class User:
    """What an authentication in front of the application puts into the scope."""

    is_authenticated = True

    def __init__(self, identity: str) -> None:
        self.identity = identity


async def test_row_35_a_session_id_alone_is_not_enough(new_handler: NewHandler) -> None:
    first, second = new_handler(small_server()), new_handler(small_server())
    owner = await Client(first.app, second.app, scope={"user": User("me")}).initialize()
    unknown = Client(second.app)
    unknown.session = "0123456789"
    for scope in ({}, {"user": User("you")}):
        thief = Client(second.app, scope=scope)
        thief.session = owner.session
        stolen, missed = await thief.ask("ping"), await unknown.ask("ping")
        assert (stolen.status, stolen.messages) == (missed.status, missed.messages)
        assert stolen.status == 404
    assert await owner.result("ping") == {}


async def test_rows_are_written_as_json_text(database_url: str) -> None:
    async with PostgresInfoSessionManager(database_url) as info:
        await info.initialize("s", RECORD)
        rows = await fetch(database_url, "SELECT value FROM tmcp_session_client_info WHERE id = 'default:s'")
        assert json.loads(rows[0]["value"]) == RECORD.client_info


async def test_a_missing_table_names_the_command(empty_database_url: str) -> None:
    async with PostgresInfoSessionManager(empty_database_url, create=False) as info:
        with pytest.raises(SchemaError, match="tmcp-serverless migrate"):
            await info.load("s")
