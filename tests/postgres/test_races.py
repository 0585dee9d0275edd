"""What happens at once, or goes wrong for a moment: nothing is left behind, and nobody goes deaf."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.rows import key, statements_of
from tests.support.waiting import eventually
from tmcp_serverless import PostgresStreamSessionManager
from tmcp_serverless.postgres.components import streams_component
from tmcp_serverless.postgres.stream import PAGE_BYTES
from tmcp_serverless.sessions import CloseReason
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from tmcp_serverless.sessions import StoredEvent

SQL = statements_of(streams_component(schema="public"))
LEASE = 10.0


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def deleting(manager: PostgresStreamSessionManager, id: str, database: asyncpg.Connection) -> Any:
    """Begin to delete the session, and return the task when it waits for somebody's lock."""
    task = asyncio.create_task(manager.delete(id))

    async def waits() -> bool:
        return bool(
            await database.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock')"
            )
        )

    await eventually(waits)
    return task


# Deleting, while something is on its way


async def test_a_message_on_its_way_into_a_mailbox_goes_with_it(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        connected(database_url) as sender,
        connected(database_url) as database,
    ):
        await streams.prepare("s")
        async with sender.transaction():
            await sender.fetchrow(SQL["deliver"], key("s"), "late", LEASE)
            task = await deleting(streams, "s", database)
        await task
        assert await database.fetch("SELECT FROM tmcp_messages") == []
        controller = RecordingController()
        await streams.create("s", controller)
        await streams.send(["s"], "new")
        assert await controller.count(1) == ["new"]


async def test_a_lease_that_is_being_claimed_goes_with_its_session(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        connected(database_url) as claimant,
        connected(database_url) as database,
    ):
        await streams.prepare("s")
        async with claimant.transaction():
            await claimant.fetchrow(SQL["claim"], key("s"), "its holder", "its channel", None, None, None)
            task = await deleting(streams, "s", database)
        await task
        assert await database.fetch("SELECT FROM tmcp_sessions") == []
        assert await database.fetch("SELECT FROM tmcp_mailboxes") == []


async def test_streams_that_end_while_their_session_is_deleted(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        for _ in range(20):
            controllers = {f"s/{number}": RecordingController() for number in range(4)}
            for id, controller in controllers.items():
                await streams.create(id, controller)
            await asyncio.gather(
                streams.delete("s"),
                *(streams.release(id, controller) for id, controller in controllers.items()),
            )


# Claiming at once


async def test_of_two_streams_that_one_process_opens_at_once_one_lives(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        for number in range(60):
            id = f"s{number}"
            pair = RecordingController(), RecordingController()
            await asyncio.gather(*(streams.create(id, controller) for controller in pair))
            await elsewhere.send([id], "x")

            async def one_has_it(pair: Sequence[RecordingController] = pair) -> bool:
                return [event.data for each in pair for event in each.events] == ["x"]

            await eventually(one_has_it)
            await eventually(lambda pair=pair: _superseded(pair))
            for controller in pair:
                await streams.release(id, controller)


async def _superseded(pair: Sequence[RecordingController]) -> bool:
    return [each.closed for each in pair if each.closed] == [CloseReason.SUPERSEDED]


async def test_a_place_beyond_the_end_is_the_end(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        controller = RecordingController()
        await streams.create("s", controller, after="999.999")
        await streams.send(["s"], "own")
        await streams.send(None, "everybody's")
        assert sorted(await controller.count(2)) == ["everybody's", "own"]


# A database that refuses for a moment


@pytest.mark.parametrize("doorbell", ["listen", "poll"])
async def test_streams_go_on_after_a_heartbeat_that_the_database_refused(
    database_url: str, doorbell: Any
) -> None:
    async with connected(database_url) as database:
        name = await database.fetchval("SELECT current_database()")
        await database.execute(f"ALTER DATABASE \"{name}\" SET lock_timeout = '20ms'")
    async with (
        PostgresStreamSessionManager(database_url, doorbell=doorbell, heartbeat_seconds=0.1) as streams,
        connected(database_url) as database,
    ):
        controller = RecordingController()
        await streams.create("s", controller)
        async with database.transaction():
            await database.execute("SELECT FROM tmcp_sessions FOR UPDATE")
            await asyncio.sleep(0.5)
        await streams.send(["s"], "x")
        assert await controller.count(1) == ["x"]
        refreshed = await database.fetchval("SELECT updated_at FROM tmcp_sessions")

        async def is_refreshed() -> bool:
            return bool(await database.fetchval("SELECT updated_at > $1 FROM tmcp_sessions", refreshed))

        await eventually(is_refreshed)
        assert controller.closed is None


# Bounds


class Pages(RecordingController):
    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []

    async def write(self, events: Sequence[StoredEvent]) -> None:
        self.pages.append(sum(len(event.data) for event in events))
        await super().write(events)


async def test_a_page_is_bounded_in_bytes(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("s")
        size = PAGE_BYTES // 3
        sent = [str(number) * size for number in range(10)]
        for data in sent:
            await streams.send(["s"], data)
        await streams.send(["s"], "x" * 4 * PAGE_BYTES)
        await streams.send(None, "y" * size)
        controller = Pages()
        await streams.create("s", controller)
        arrived = await controller.count(12)
    assert [data for data in arrived if data[0] not in "xy"] == sent
    assert controller.missing == 0
    assert len(controller.pages) >= 3
    assert max(controller.pages[:-1]) <= PAGE_BYTES + 2 * size


async def test_mailboxes_are_bounded_however_they_are_filled(database_url: str) -> None:
    async with (
        PostgresStreamSessionManager(database_url, retention_rows=100) as streams,
        connected(database_url) as database,
    ):
        after = None
        for number in range(256):
            await streams.send(["a", "b"], str(number))
            after = await streams.append("s/out.1", str(number), after=after or "0.0")
        rows = await database.fetch("SELECT mailbox, count(*) FROM tmcp_messages GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(key("a"), 100), (key("b"), 100), (key("s/out.1"), 100)]
