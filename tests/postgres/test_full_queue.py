"""A server whose NOTIFY queue is full: what cannot ring is stored, and is read at the next heartbeat."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.support.rows import statements_of
from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless import Notifier, PostgresStreamSessionManager, Settings, create_handler
from tmcp_serverless.errors import TmcpError
from tmcp_serverless.postgres.components import streams_component
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.operate.diagnosis import diagnose
from tmcp_serverless.postgres.schema import migrate
from tmcp_serverless.postgres.sql_files import silenced
from tmcp_serverless.sessions import CloseReason
from tmcp_serverless.testing.contracts import RecordingController
from tmcp_serverless.testing.postgres import EmbeddedPostgres, create_database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

SINCE = 17
"""The version of Postgres from which on the queue can be small."""

WAIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def small_queue() -> Generator[str]:
    server = EmbeddedPostgres(version=18, settings={"max_notify_queue_pages": "64"}, durable=False)
    try:
        with server as running:
            yield running.dsn
    except TmcpError as error:
        pytest.skip(f"no PostgreSQL of {SINCE} or newer: {error}")


@pytest.fixture
async def url(small_queue: str, request: pytest.FixtureRequest) -> str:
    made = await create_database(small_queue, f"q_{abs(hash(request.node.nodeid)):x}")
    await migrate(made)
    return made


async def repeated(connection: asyncpg.Connection, sql: str, times: int) -> None:
    for _ in range(times):
        await connection.execute(sql)


@asynccontextmanager
async def full(url: str) -> AsyncGenerator[None]:
    """Fill the queue, as a session does that LISTENs and stays in a transaction."""
    stuck, noisy = await asyncpg.connect(url), await asyncpg.connect(url)
    await stuck.execute("LISTEN other")
    await stuck.execute("BEGIN; SELECT 1")
    filling = (
        "DO $$ BEGIN FOR n IN 1..20 LOOP PERFORM pg_notify('other', n || repeat('x', 7000)); END LOOP; END $$"
    )
    with pytest.raises(asyncpg.ProgramLimitExceededError):
        await repeated(noisy, filling, 100)
    try:
        yield
    finally:
        await stuck.close()
        await noisy.close()


async def test_everything_that_rings_works_and_one_warning_says_that_it_does_not(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="tmcp_serverless")
    async with (
        PostgresStreamSessionManager(url, heartbeat_seconds=0.2) as here,
        PostgresStreamSessionManager(url, heartbeat_seconds=0.2) as there,
        here.events.watch(watching := RecordingController()),
    ):
        ids = ["own", "many", "exists", "taken", "cut", "gone", "at"]
        controllers = {id: RecordingController() for id in ids}
        for id in ids:
            await here.create(id, controllers[id])
        async with full(url):
            await there.append("own", '"append"')
            await there.send(["own", "many"], '"several"')
            assert await there.append("exists", '"deliver"', create=False) is not None
            await there.append("at", '"at"', after="0.0")
            await there.send(None, '"everybody"')
            await there.events.publish('"event"')
            successor = RecordingController()
            await there.create("taken", successor)
            await there.release("cut")
            await there.delete("gone")
            await there.append("new", '"first"')

            async def all_is_there() -> bool:
                return (
                    [event.data for event in controllers["own"].events]
                    == ['"append"', '"several"', '"everybody"']
                    and {event.data for event in controllers["many"].events} == {'"several"', '"everybody"'}
                    and {event.data for event in controllers["exists"].events} == {'"deliver"', '"everybody"'}
                    and {event.data for event in controllers["at"].events} == {'"at"', '"everybody"'}
                    and [event.data for event in watching.events] == ['"event"']
                    and controllers["taken"].closed is CloseReason.SUPERSEDED
                    and controllers["cut"].closed is CloseReason.INTERRUPTED
                    and controllers["gone"].closed is CloseReason.DELETED
                )

            await eventually(all_is_there, seconds=WAIT_SECONDS)
            assert not await there.has("gone")
            await there.release("taken", successor)
        warnings = [line for line in caplog.messages if "stored without NOTIFY" in line]
        assert len(warnings) == 1, caplog.messages
        late = RecordingController()
        await here.create("late", late)
        await there.send(["late"], '"rings again"')

        async def rings() -> bool:
            return [event.data for event in late.events][-1:] == ['"rings again"']

        await eventually(rings)


async def test_a_process_that_starts_then_serves_too(url: str) -> None:
    async with full(url):
        handler = create_handler(small_server(), database_url=url)
        async with (
            PostgresStreamSessionManager(url, heartbeat_seconds=0.2) as streams,
            Notifier(url) as notifier,
        ):
            controller = RecordingController()
            await streams.create("s", controller)
            await notifier.tools_changed()

            async def is_told() -> bool:
                return len(controller.events) == 1

            await eventually(is_told, seconds=WAIT_SECONDS)
            findings = [each async for each in diagnose(Database(url), Settings())]
            assert [each.said for each in findings if each.grade == "wrong"], findings
            assert "NOTIFY queue is full" in findings[-1].said
        await handler.aclose()


async def test_no_ring_is_left_in_a_silent_statement(url: str) -> None:
    statements = statements_of(streams_component())
    rings = {name: sql for name, sql in statements.items() if "pg_notify" in sql}
    assert len(rings) >= 8
    connection = await asyncpg.connect(url)
    for sql in rings.values():
        assert "pg_notify" not in silenced(sql)
        loud, silent = await connection.prepare(sql), await connection.prepare(silenced(sql))
        assert [each.name for each in loud.get_parameters()] == [
            each.name for each in silent.get_parameters()
        ]
        assert len(loud.get_attributes()) == len(silent.get_attributes())
    await connection.close()
