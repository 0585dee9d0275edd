"""The life of an HTTP+SSE session: it begins and ends with its stream, whoever ends that, and however."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from tests.support.bare_managers import bare_managers
from tests.support.client import Client
from tests.support.fixtures import postgres_managers
from tests.support.front import Front
from tests.support.sse_client import OLDEST, SseClient, text_of
from tests.support.sse_fixtures import INITIALIZE, PING, client, handlers, stage
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless import (
    ConfigurationError,
    Handler,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
    StoreUnavailableError,
    create_handler,
)
from tmcp_serverless.handshake.get_readers import StreamReader
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler
    from tmcp_serverless.sessions import SessionRecord, StreamController

__all__ = ["client", "handlers", "stage"]


async def test_the_session_is_stored_before_its_endpoint_is_told(handlers: list[Handler]) -> None:
    async with SseClient(handlers[0].app) as client:
        for handler in handlers:
            record = await handler.managers.info.load(client.id)
            assert record is not None
            assert (record.protocol_version, record.is_negotiated, record.initialized) == (
                OLDEST,
                False,
                False,
            )
            assert await handler.managers.streams.has(client.id)


async def test_before_initialize_only_a_ping_is_answered(client: SseClient, handlers: list[Handler]) -> None:
    async with SseClient(*(handler.app for handler in handlers)) as early:
        assert await early.result("ping") == {}
        assert (await early.answer("tools/list"))["error"]["code"] == -32602
        await early.initialize()
        assert await early.result("tools/list") == await client.result("tools/list")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_what_initialize_settles_is_known_to_every_instance(
    handlers: list[Handler], version: str
) -> None:
    async with SseClient(*(handler.app for handler in handlers), version=version) as client:
        await client.initialize(capabilities=CAPABILITIES)
        assert client.version == version
        for handler in handlers:
            record = await handler.managers.info.load(client.id)
            assert record is not None
            assert (record.protocol_version, record.initialized) == (version, True)
            assert record.client_capabilities == CAPABILITIES
            seen = {"name": "seen", "arguments": {}}
            async with client.send(
                "POST", {**PING, "method": "tools/call", "params": seen}, user_agent="elder"
            ):
                assert text_of(await client.answered(1)) == f"elder, {version}"
            client.stream.messages.clear()
        assert client.stream.ids == []


async def test_initialize_is_durable_before_it_is_answered(handlers: list[Handler]) -> None:
    async with SseClient(*(handler.app for handler in handlers)) as client:
        async with client.request("initialize", INITIALIZE, id="i"):
            assert "result" in await client.answered("i")
            record = await handlers[2].managers.info.load(client.id)
        assert record is not None
        assert record.client_info == INITIALIZE["clientInfo"]


async def test_an_initialize_that_is_wrong_leaves_the_session_as_it_was(handlers: list[Handler]) -> None:
    async with SseClient(*(handler.app for handler in handlers)) as client:
        assert (await client.answer("initialize", {"protocolVersion": OLDEST}))["error"]["code"] == -32602
        await client.initialize()


async def test_sessions_of_one_transport_do_not_exist_on_the_other(
    client: SseClient, handlers: list[Handler]
) -> None:
    other = client.path
    newer = Client(*(handler.app for handler in handlers))
    await newer.initialize()
    newer.session, older_id = client.id, newer.session
    assert (await newer.ask("ping")).status == 404
    async with newer.listen() as stream:
        assert (await stream.whole()).status == 404
    assert (await newer.delete()).status == 404
    client.path = f"/message?session_id={older_id}"
    assert (await client.post(PING)).status == 404
    client.path = other
    assert await client.result("ping") == {}


async def test_an_id_that_is_missing_or_nobodys_is_refused(client: SseClient) -> None:
    unknown = f"sse-{'x' * 43}"
    refused: list[Any] = []
    for query, status in (
        ("", 400),
        ("?session_id=", 400),
        ("?sessionId=x", 400),
        (f"?session_id={unknown}", 404),
        (f"?session_id={'y' * 43}", 404),
        ("?session_id=x%27%20OR%201=1", 400),
        ("?session_id=%00", 400),
    ):
        client.path = f"/message{query}"
        refused.append(await client.post(PING))
        assert refused[-1].status == status, query
    assert refused[3].messages == refused[4].messages


async def test_a_session_is_its_principals_and_nobody_elses(new_handler: NewHandler, stage: Stage) -> None:
    def principal(scope: Any) -> str:
        return dict(scope["headers"]).get(b"x-user", b"").decode()

    apps = [new_handler(talkative_server(stage), principal=principal).app for _ in range(2)]
    client = SseClient(*apps)
    client.always = {"x-user": "ann"}
    async with client:
        await client.initialize()
        wrong = await client.post(PING, x_user="bob")
        assert wrong.status == 404
        own, client.path = client.path, f"/message?session_id=sse-{'x' * 43}"
        assert (await client.post(PING)).messages == wrong.messages
        client.path = own
        assert await client.result("ping") == {}


async def test_when_the_client_goes_its_session_goes_and_what_ran_in_it_is_stopped(
    handlers: list[Handler], stage: Stage
) -> None:
    client = SseClient(*(handler.app for handler in handlers))
    async with client:
        await client.initialize()
        await client.result("resources/subscribe", {"uri": "note://one"})
        async with client.calling("quiet"):
            await stage.started.wait()
            await asyncio.sleep(0.3)  # A request listens once it lasts.
            client.stream.leave()
            await client.stream.whole()
            async with asyncio.timeout(30):
                await stage.cancelled.wait()
        for _ in range(3):
            assert (await client.post(PING)).status == 404
    for handler in handlers:
        assert await handler.managers.info.load(client.id) is None
        assert not await handler.managers.streams.has(client.id)
        assert await handler.managers.info.get_subscriptions("note://one") == set()


async def test_nothing_of_a_session_is_left_in_the_database(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    apps = [new_postgres_handler(talkative_server(stage)).app for _ in range(2)]
    async with SseClient(*apps) as client:
        await client.initialize()
        await client.result("logging/setLevel", {"level": "error"})
        await client.result("resources/subscribe", {"uri": "note://one"})
        await client.call("log")
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE tablename ~ '^tmcp_'")
        for (table,) in tables:
            if table != "tmcp_schema":
                column = "mailbox" if table == "tmcp_messages" else "id"
                columns = await connection.fetch(
                    "SELECT 1 FROM information_schema.columns WHERE table_name = $1 AND column_name = $2",
                    table,
                    column,
                )
                if columns:
                    assert await connection.fetch(f"SELECT FROM {table} WHERE {column} ~ '^sse-'") == [], (
                        table
                    )
    finally:
        await connection.close()


async def test_a_session_whose_instance_was_killed_is_404_once_its_lease_is_over(
    stage: Stage, database_url: str
) -> None:
    """What a killed instance leaves is a lease that nobody refreshes: here there is no heartbeat."""
    managers = postgres_managers(database_url, streams={"heartbeat_seconds": 60})
    handlers = [create_handler(talkative_server(stage), session_manager=managers) for _ in range(2)]
    connection = await asyncpg.connect(database_url)
    try:
        async with SseClient(*(handler.app for handler in handlers)) as client:
            await client.initialize()
            await connection.execute("UPDATE tmcp_sessions SET updated_at = now() - interval '9.5 s'")
            assert (await client.post(PING)).status == 202, "until then it may be alive"
            await connection.execute("UPDATE tmcp_sessions SET updated_at = now() - interval '10.1 s'")
            assert (await client.post(PING)).status == 404
            assert await managers.info.load(client.id) is None, "and it is taken along"
            await client.stream.whole()
    finally:
        await connection.close()
        for handler in handlers:
            await handler.aclose()
        await managers.aclose()


async def test_draining_ends_the_streams_and_their_sessions(handlers: list[Handler]) -> None:
    async with SseClient(*(handler.app for handler in handlers)) as client:
        await client.initialize()
        await handlers[1].drain()
        assert await client.result("ping") == {}, "another instance's stream is none of its business"
        await handlers[0].drain()
        await client.stream.whole()
        assert (await client.post(PING)).status == 404


async def test_the_stream_has_no_end_of_its_own(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamReader, "look_seconds", 0.05)
    apps = [new_handler(talkative_server(stage), stream_max_seconds=0.2).app for _ in range(2)]
    async with SseClient(*apps) as client:
        await client.initialize()
        await client.stream.until(lambda: client.stream.comments > 12)
        assert not client.stream.ended
        assert await client.result("ping") == {}


async def test_a_stream_keeps_its_session_from_expiring_and_ends_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(InMemoryInfoSessionManager):
        slid = 0

        async def load(self, id: str, *, principal: str = "") -> SessionRecord | None:
            self.slid += 1
            return await super().load(id, principal=principal)

    monkeypatch.setattr(StreamReader, "look_seconds", 0.02)
    info = Counting()
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=info)
    handler = create_handler(talkative_server(stage), session_manager=managers, stream_max_seconds=0.05)
    async with SseClient(handler.app) as client:
        await client.initialize()
        before = info.slid
        await client.stream.until(lambda: info.slid >= before + 3)
        assert not client.stream.ended
        await info.delete(client.id)
        await client.stream.whole()
    await handler.aclose()


async def test_a_stream_ends_before_its_host_does(new_handler: NewHandler, stage: Stage) -> None:
    scope = {"extensions": {PLATFORM_EXTENSION: Platform(deadline=time.monotonic() + 2.4)}}
    app = new_handler(talkative_server(stage)).app
    async with SseClient(app, scope=scope) as client:
        await client.stream.whole()
        assert (await client.post(PING)).status == 404


async def test_a_stream_ends_with_the_token_that_it_was_opened_with(
    new_handler: NewHandler, stage: Stage
) -> None:
    token = AccessToken(token="t", client_id="c", scopes=[], expires_at=int(time.time()) + 1)
    app = new_handler(talkative_server(stage)).app
    async with SseClient(app, scope={"user": AuthenticatedUser(token)}) as client:
        await client.stream.whole()
        assert (await client.post(PING)).status == 404


async def test_a_host_that_stops_while_a_session_is_deleted_leaves_nothing_of_it(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))
    info, front = handler.managers.info, Front(handler.app)
    delete, deleting, go_on = info.delete, asyncio.Event(), asyncio.Event()

    async def slow(id: str) -> None:
        deleting.set()
        await go_on.wait()
        await delete(id)

    monkeypatch.setattr(info, "delete", slow)
    client = await SseClient(front).__aenter__()
    client.stream.leave()
    await deleting.wait()
    assert front.tasks[0] is not None
    front.tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.stream.whole()
    go_on.set()

    async def gone() -> bool:
        return not await handler.managers.streams.has(client.id) and await info.load(client.id) is None

    await eventually(gone)
    assert await handler.managers.streams.append(client.id, "{}", create=False) is None, (
        "it has no mailbox any more"
    )


async def test_a_session_whose_metadata_cannot_be_deleted_gives_its_stream_back(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = new_handler(talkative_server(stage))

    async def refuse(_: str) -> None:
        raise ConfigurationError("permission denied")

    monkeypatch.setattr(handler.managers.info, "delete", refuse)
    async with SseClient(handler.app) as client:
        pass
    assert not await handler.managers.streams.has(client.id)


async def test_a_request_is_answered_before_its_host_ends_it(handlers: list[Handler], stage: Stage) -> None:
    async def dying(scope: Any, receive: Any, send: Any) -> None:
        host = Platform(deadline=time.monotonic() + 2.3)
        await handlers[1].app({**scope, "extensions": {PLATFORM_EXTENSION: host}}, receive, send)

    apps = [handlers[0].app] * 3
    async with SseClient(*apps, dying) as client:
        await client.initialize()
        async with client.calling("quiet"):
            assert "longer than its instance" in (await client.answered(7))["error"]["message"]
    assert stage.cancelled.is_set()


async def test_a_request_whose_host_is_stopped_is_answered(handlers: list[Handler], stage: Stage) -> None:
    tasks: list[asyncio.Task[None] | None] = []

    async def stopping(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        await handlers[1].app(scope, receive, send)

    async with SseClient(*[handlers[0].app] * 3, stopping) as client:
        await client.initialize()
        exchange = await client.calling("quiet").__aenter__()
        await stage.started.wait()
        assert tasks[0] is not None
        tasks[0].cancel()
        assert "stopped" in (await client.answered(7))["error"]["message"]
        with pytest.raises(asyncio.CancelledError):
            await exchange.whole()


async def test_where_answers_are_delivered_whole_there_is_no_stream(
    new_handler: NewHandler, stage: Stage
) -> None:
    scope = {"extensions": {PLATFORM_EXTENSION: Platform(streams=False)}}
    client = SseClient(new_handler(talkative_server(stage)).app, scope=scope)
    async with client.send("GET") as refused:
        await refused.whole()
    assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS")
    assert "delivered whole" in refused.messages[0]["error"]["message"]


async def test_a_post_to_such_a_host_is_served_all_the_same(handlers: list[Handler]) -> None:
    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await handlers[1].app(
            {**scope, "extensions": {PLATFORM_EXTENSION: Platform(streams=False)}}, receive, send
        )

    async with SseClient(*[handlers[0].app] * 3, whole) as client:
        await client.initialize(capabilities=CAPABILITIES)
        refused = await client.answer("tools/call", {"name": "favourite", "arguments": {}})
        assert "back-channel" in refused["error"]["message"], "the answer would wait for the 202"


# Managers


async def test_somebodys_own_managers_need_the_abstract_methods_only(stage: Stage) -> None:
    managers = bare_managers()
    handlers = [create_handler(talkative_server(stage), session_manager=managers) for _ in range(2)]
    async with SseClient(*(handler.app for handler in handlers)) as client:
        await client.initialize(capabilities=CAPABILITIES)
        async with client.calling("favourite"):
            [question] = await client.asked()
            await client.respond(question, {"action": "accept", "content": {"color": "red"}})
            assert text_of(await client.answered(7)) == "accept red"
        await handlers[0].notifier.tools_changed()
        await client.told("notifications/tools/list_changed")
    assert (await client.post(PING)).status == 404
    for handler in handlers:
        await handler.aclose()


class ShakyStreams(InMemoryStreamSessionManager):
    """Their store is away for the next few messages; and they can lose some."""

    away = 0

    async def append(self, id: str, data: str, **options: Any) -> str | None:
        if self.away > 0:
            self.away -= 1
            raise StoreUnavailableError("away")
        return await super().append(id, data, **options)

    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        self.controller = controller
        await super().create(id, controller, after=after)


@pytest.fixture
async def shaky(stage: Stage) -> AsyncGenerator[tuple[ShakyStreams, Handler]]:
    streams = ShakyStreams()
    managers = SessionManagers(streams=streams, info=InMemoryInfoSessionManager())
    handler = create_handler(talkative_server(stage), session_manager=managers)
    yield streams, handler
    await handler.aclose()


async def test_what_cannot_be_stored_is_tried_again(shaky: tuple[ShakyStreams, Handler]) -> None:
    streams, handler = shaky
    async with SseClient(handler.app) as client:
        await client.initialize()
        streams.away = 2
        assert await client.call("big", size=3) == "xxx"


async def test_a_session_that_has_lost_messages_ends_and_nothing_comes_behind_the_gap(
    shaky: tuple[ShakyStreams, Handler],
) -> None:
    streams, handler = shaky
    async with SseClient(handler.app) as client:
        await client.initialize()
        heard = len(client.stream.messages)
        await streams.controller.missed(3)
        await streams.send([client.id], '{"jsonrpc":"2.0","method":"behind"}')
        await client.stream.whole()
        assert len(client.stream.messages) == heard
        assert (await client.post(PING)).status == 404


async def test_a_store_that_is_away_is_503_and_no_half_session(stage: Stage) -> None:
    class Away(InMemoryStreamSessionManager):
        async def prepare(self, id: str) -> None:
            raise StoreUnavailableError(f"away for {id}")

    class Remembering(InMemoryInfoSessionManager):
        made = ""

        async def initialize(self, id: str, record: SessionRecord, *, only_if_exists: bool = False) -> bool:
            self.made = id
            return await super().initialize(id, record, only_if_exists=only_if_exists)

    info = Remembering()
    handler = create_handler(
        talkative_server(stage), session_manager=SessionManagers(streams=Away(), info=info)
    )
    client = SseClient(handler.app)
    async with client.send("GET") as refused:
        await refused.whole()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert info.made
    assert await info.load(info.made) is None
    await handler.aclose()


# Settings


async def test_it_can_be_switched_off(new_handler: NewHandler, stage: Stage) -> None:
    client = Client(new_handler(talkative_server(stage), disable_legacy_sse=True).app)
    for path, verb in (("/sse", "GET"), ("/message", "POST")):
        client.path = path
        async with client.send(verb, PING) as refused:
            assert (await refused.whole()).status == 404


async def test_its_paths_can_be_chosen(new_handler: NewHandler, stage: Stage) -> None:
    app = new_handler(
        talkative_server(stage), path="/sse", sse_path="/old/stream", message_path="/old/post"
    ).app
    client = Client(app)
    client.path = "/sse"
    assert await (await client.initialize()).call("change") == "changed"
    async with SseClient(app, path="/old/stream/") as older:
        await older.initialize()
        assert older.path.startswith("/old/post?")


@pytest.mark.parametrize(
    "options", [{"path": "/sse"}, {"path": "/message/"}, {"sse_path": "/x", "message_path": "/x/"}]
)
def test_paths_that_are_the_same_are_a_configuration_error(stage: Stage, options: dict[str, Any]) -> None:
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    with pytest.raises(ConfigurationError, match="sse_path"):
        create_handler(talkative_server(stage), session_manager=managers, **options)


async def test_expired_rows_are_taken_along_when_a_session_is_made(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        app = new_postgres_handler(talkative_server(stage)).app
        await Client(app).initialize()
        await connection.execute("UPDATE tmcp_session_context SET updated_at = now() - interval '25 h'")
        async with SseClient(app) as client:
            await client.initialize()

            async def swept() -> bool:
                return await connection.fetchval("SELECT count(*) FROM tmcp_session_context") == 1

            await eventually(swept)
    finally:
        await connection.close()
