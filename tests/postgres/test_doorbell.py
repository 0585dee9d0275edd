"""The connection that LISTENs: whether it delivers, how long it stays, and who is told when it is lost."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.postgres.test_streams import execute, pgbouncer
from tests.support.rows import key
from tests.support.waiting import eventually
from tmcp_serverless import Database, PostgresStreamSessionManager, StoreUnavailableError
from tmcp_serverless.postgres import listen_probe
from tmcp_serverless.postgres.connection import Connection
from tmcp_serverless.postgres.statements import Statements
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["pgbouncer"]

LONG_SECONDS = 60.0

SOON = 30.0
"""Before the server itself closes a connection that LISTENs, which it does after 12 s."""


async def listeners(dsn: str) -> list[int]:
    """Return the process ids of the connections that LISTEN, or did."""
    rows = await execute(
        dsn,
        "SELECT pid FROM pg_stat_activity "
        "WHERE application_name = 'tmcp_serverless listen' AND datname = current_database()",
    )
    return [row[0] for row in rows]


async def nobody_listens(dsn: str) -> bool:
    return not await listeners(dsn)


async def kill_listeners(dsn: str) -> None:
    for pid in await listeners(dsn):
        await execute(dsn, "SELECT pg_terminate_backend($1, 5000)", pid)


async def open_and_release(streams: PostgresStreamSessionManager, id: str) -> None:
    controller = RecordingController()
    await streams.create(id, controller)
    await streams.release(id, controller)


# Whether it delivers


@pytest.mark.parametrize("trouble", ["cut", "stalled"])
async def test_one_link_that_is_lost_during_the_trial_does_not_make_a_process_poll_for_ever(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    listen, calls = Connection.listen, 0

    async def listen_badly(self: Connection, channels: Iterable[str], callback: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1 and trouble == "stalled":
            raise TimeoutError
        await listen(self, channels, callback)
        if calls == 1:
            await execute(database_url, "SELECT pg_terminate_backend($1, 5000)", self.get_server_pid())

    monkeypatch.setattr(Connection, "listen", listen_badly)
    controller = RecordingController()
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
        with caplog.at_level(logging.WARNING), pytest.raises(StoreUnavailableError):
            await streams.create("s", RecordingController())
        await streams.create("s", controller)
        assert len(await listeners(database_url)) == 1
        await streams.send(["s"], "x")
        assert await controller.count(1) == ["x"]
    assert caplog.records == []


async def test_a_notification_that_is_only_late_is_heard(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_probe, "_NONCE_SECONDS", 0.0)
    async with Database(database_url) as database:
        connection = await database.connect(listen=True)
        assert await listen_probe.hear_nonce(database, connection) is not None
        await connection.close()


def old_version(_: Connection) -> asyncpg.types.ServerVersion:
    return asyncpg.types.ServerVersion(13, 16, 0, "final", 0)


async def test_an_old_server_is_given_as_long_as_any_other(
    pgbouncer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(pgbouncer) as database:
        connection = await database.connect(listen=True)
        patience = listen_probe._patience_seconds  # pyright: ignore[reportPrivateUsage]
        assert patience(database, connection) == 0.5
        # It refuses the setting as a pooler does: it is older than that.
        monkeypatch.setattr(Connection, "get_server_version", old_version)
        assert patience(database, connection) == 2.0
        await connection.close()


# How long it stays


async def test_requests_that_follow_each_other_listen_on_one_connection(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url, linger_seconds=LONG_SECONDS) as streams:
        found: set[int] = set()
        for number in range(10):
            await open_and_release(streams, f"s{number}/in.1")
            found.update(await listeners(database_url))
        assert len(found) == 1
        connection = streams._doorbell._listener.connection  # pyright: ignore[reportPrivateUsage]
        assert connection is not None
        assert await connection.fetch("SELECT pg_listening_channels()") == []
        controller = RecordingController()
        await streams.create("s", controller)
        await streams.send(["s"], "x")
        assert await controller.count(1) == ["x"]
    assert await nobody_listens(database_url)


async def test_a_connection_that_nobody_needs_any_more_is_closed(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url, linger_seconds=0.5) as streams:
        await open_and_release(streams, "s")
        await eventually(lambda: nobody_listens(database_url), seconds=SOON)


async def test_a_connection_that_lingers_is_closed_at_once_where_that_is_asked_for(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url, linger_seconds=LONG_SECONDS) as streams:
        await open_and_release(streams, "s")
        assert len(await listeners(database_url)) == 1
        await streams.disconnect()
        await eventually(lambda: nobody_listens(database_url), seconds=SOON)
        await streams.create("s", RecordingController())
        await streams.disconnect()
        assert len(await listeners(database_url)) == 1, "it is in use"


async def test_a_connection_that_was_lost_while_it_lingered_is_not_relied_on(database_url: str) -> None:
    controller = RecordingController()
    async with PostgresStreamSessionManager(database_url, linger_seconds=LONG_SECONDS) as streams:
        await open_and_release(streams, "a")
        await kill_listeners(database_url)
        await streams.create("b", controller)
        await streams.send(["b"], "x")
        assert await controller.count(1) == ["x"]


async def test_a_connection_that_lingered_while_the_process_was_frozen_is_not_relied_on(
    database_url: str,
) -> None:
    async with PostgresStreamSessionManager(database_url, linger_seconds=LONG_SECONDS) as streams:
        await open_and_release(streams, "a")
        before = await listeners(database_url)
        streams._doorbell._lingers_until -= LONG_SECONDS  # pyright: ignore[reportPrivateUsage]
        await streams.create("b", RecordingController())
        assert before[0] not in await listeners(database_url)


async def test_a_link_that_was_lost_unnoticed_does_not_fail_who_opens_a_stream(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RecordingController(), RecordingController()
    async with PostgresStreamSessionManager(database_url, heartbeat_seconds=5) as streams:
        await streams.create("a", first)
        listen, calls = Connection.listen, 0

        async def listen_badly(self: Connection, channels: Iterable[str], callback: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ConnectionResetError
            await listen(self, channels, callback)

        monkeypatch.setattr(Connection, "listen", listen_badly)
        await streams.create("b", second)
        await streams.send(["a", "b"], "x")
        assert await first.count(1) == ["x"]
        assert await second.count(1) == ["x"]


async def test_whoever_is_cut_short_while_closing_leaves_no_connection(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
    managers: list[PostgresStreamSessionManager] = []
    for turns in range(1, 12):
        streams = PostgresStreamSessionManager(database_url, doorbell="listen", heartbeat_seconds=0.2)
        managers.append(streams)
        await streams.create(f"s{turns}", RecordingController())
        closing = asyncio.create_task(
            streams._reader.close(streams._streams[key(f"s{turns}")])  # pyright: ignore[reportPrivateUsage]
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
    await eventually(lambda: nobody_listens(database_url), seconds=SOON)
    for streams in managers:
        await streams.aclose()


# Whose time it takes


async def test_what_runs_for_all_streams_knows_nothing_of_the_request_that_was_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="none")
    fetch, seen = Statements.fetch, set[str]()

    async def noting(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        if name in ("news", "heartbeat"):
            seen.add(token.get())
        return await fetch(self, name, *args, idempotent=idempotent)

    monkeypatch.setattr(Statements, "fetch", noting)
    async with PostgresStreamSessionManager(database_url, doorbell="poll") as streams:
        token.set("of the first")
        await streams.create("s", RecordingController())

        async def has_run() -> bool:
            return bool(seen)

        await eventually(has_run)
    assert seen == {"none"}


async def test_however_many_streams_are_opened_it_looks_no_more_often(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Statements.fetch
    looked: list[tuple[float, float]] = []

    async def noting(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        began_at = time.monotonic()
        try:
            return await fetch(self, name, *args, idempotent=idempotent)
        finally:
            if name in ("news", "heartbeat"):
                looked.append((began_at, time.monotonic()))

    monkeypatch.setattr(Statements, "fetch", noting)
    async with PostgresStreamSessionManager(database_url, doorbell="poll") as streams:
        await streams.create("s", RecordingController())
        number = 0
        while len(looked) < 6:
            number += 1
            await open_and_release(streams, f"s/in.{number}")
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(looked)]
    assert number > len(looked), "else nobody was in a hurry"
    assert min(gaps) >= 0.04


async def test_the_end_of_a_database_that_does_not_answer_is_told_more_than_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is opened while the others are told of the end is kept all the same."""
    fetch, is_away = Statements.fetch, False

    async def away(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        if is_away:
            raise StoreUnavailableError("away")
        return await fetch(self, name, *args, idempotent=idempotent)

    monkeypatch.setattr(Statements, "fetch", away)
    async with PostgresStreamSessionManager(
        database_url, doorbell="poll", heartbeat_seconds=0.1, lease_seconds=0.5
    ) as streams:
        first, second = RecordingController(), RecordingController()
        await streams.create("a", first)
        is_away = True
        await first.end()
        is_away = False
        await streams.create("b", second)
        lease = await execute(database_url, "SELECT updated_at FROM tmcp_sessions WHERE id = 'default:b'")

        async def is_kept() -> bool:
            rows = await execute(
                database_url,
                "SELECT FROM tmcp_sessions WHERE id = 'default:b' AND updated_at > $1",
                lease[0][0],
            )
            return bool(rows)

        await eventually(is_kept)
        assert second.closed is None
