"""Whose a stream is when something is cut short, or the database is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.adversity.proxy import Proxy
from tests.postgres.test_streams import execute
from tests.support.waiting import eventually
from tmcp_serverless import PostgresStreamSessionManager, StoreUnavailableError
from tmcp_serverless.postgres.statements import Statements
from tmcp_serverless.sessions import CloseReason
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.sessions import StoredEvent


@pytest.mark.parametrize("outcome", ["cancelled", "lost"])
async def test_a_stream_whose_opening_was_cut_short_is_nobodys(
    database_url: str, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """Also where the claim had been committed, and only its reply was still on its way."""
    fetchrow, committed, reply = Statements.fetchrow, asyncio.Event(), asyncio.Event()

    async def slowly(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        row = await fetchrow(self, name, *args, idempotent=idempotent)
        if name == "claim":
            committed.set()
            await reply.wait()
            if outcome == "lost":
                raise StoreUnavailableError("the reply was lost")
        return row

    async with (
        PostgresStreamSessionManager(database_url) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        await elsewhere.send(["s"], "x")
        monkeypatch.setattr(Statements, "fetchrow", slowly)
        opening = asyncio.create_task(streams.create("s", RecordingController()))
        await committed.wait()
        assert await elsewhere.has("s")
        if outcome == "cancelled":
            opening.cancel()
            await asyncio.sleep(0)
        reply.set()
        [error] = await asyncio.gather(opening, return_exceptions=True)
        assert isinstance(error, (asyncio.CancelledError, StoreUnavailableError))

        async def is_nobodys() -> bool:
            return not await elsewhere.has("s")

        await eventually(is_nobodys, seconds=5)  # A lease expires after ten.
        monkeypatch.undo()
        controller = RecordingController()
        await elsewhere.create("s", controller)
        assert await controller.count(1) == ["x"]


async def test_an_opening_that_is_cut_short_asks_the_holder_before_it_to_come_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetchrow, claims = Statements.fetchrow, 0
    committed, reply = asyncio.Event(), asyncio.Event()

    async def slowly(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        nonlocal claims
        row = await fetchrow(self, name, *args, idempotent=idempotent)
        if name == "claim":
            claims += 1
            if claims == 1:
                committed.set()
                await reply.wait()
        return row

    first, third = RecordingController(), RecordingController()
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        PostgresStreamSessionManager(database_url) as elsewhere,
    ):
        await elsewhere.create("s", first)
        monkeypatch.setattr(Statements, "fetchrow", slowly)
        opening = asyncio.create_task(streams.create("s", RecordingController()))
        await committed.wait()
        opening.cancel()
        # One who comes right behind, in the same process, claims after that has been undone.
        next_one = asyncio.create_task(streams.create("s", third))
        reply.set()
        await asyncio.gather(opening, return_exceptions=True)
        await next_one
        await elsewhere.send(["s"], "x")
        assert await third.count(1) == ["x"]
        assert await first.end() in (CloseReason.INTERRUPTED, CloseReason.SUPERSEDED)
        assert third.closed is None


async def test_who_is_told_that_the_database_is_gone_does_not_wait_for_it(database_url: str) -> None:
    url = urlsplit(database_url)
    async with Proxy(url.port or 5432) as proxy:
        through = url._replace(netloc=f"{url.username}@127.0.0.1:{proxy.port}").geturl()
        streams = PostgresStreamSessionManager(through, heartbeat_seconds=0.2, lease_seconds=0.5)
        controllers = {f"s{number}": RecordingController() for number in range(20)}
        for id, controller in controllers.items():
            await streams.create(id, controller)
        proxy.hold()
        for controller in controllers.values():
            assert await controller.end() is CloseReason.UNAVAILABLE
        # A statement would be given up after 3 s, and then be tried on another connection, for 5.
        async with asyncio.timeout(2.5):
            await asyncio.gather(*(streams.release(id, each) for id, each in controllers.items()))
        proxy.forward()
        again = RecordingController()
        await streams.create("s0", again)
        await streams.send(["s0"], "x")
        assert await again.count(1) == ["x"]
        await streams.aclose()


async def test_what_was_read_as_the_database_went_is_the_next_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, replies_are_lost = Statements.fetch, True

    async def losing(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        rows = await fetch(self, name, *args, idempotent=idempotent)
        if name == "read" and any(row[0] for row in rows) and replies_are_lost:
            raise StoreUnavailableError("the reply was lost")
        return rows

    monkeypatch.setattr(Statements, "fetch", losing)
    first, second = RecordingController(), RecordingController()
    async with PostgresStreamSessionManager(database_url, doorbell="poll") as streams:
        await streams.create("s", first)
        await asyncio.gather(*(streams.send(["s"], "x") for _ in range(3)))

        async def is_read() -> bool:
            return bool(await execute(database_url, "SELECT FROM tmcp_sessions WHERE delivered = 3"))

        await eventually(is_read)
        streams._doorbell._gone()  # pyright: ignore[reportPrivateUsage]
        assert await first.end() is CloseReason.UNAVAILABLE
        await streams.release("s", first)
        replies_are_lost = False

        async def is_given_back() -> bool:
            return bool(await execute(database_url, "SELECT FROM tmcp_mailboxes WHERE delivered = 0"))

        await eventually(is_given_back)
        await streams.create("s", second)
        assert await second.count(3) == ["x"] * 3
    assert first.data == []


async def test_a_manager_that_closes_waits_once_for_a_database_that_is_gone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetchrow, tried = Statements.fetchrow, 0

    async def failing(self: Statements, name: str, *args: object, idempotent: bool) -> Any:
        nonlocal tried
        if name == "release":
            tried += 1
            raise StoreUnavailableError("gone")
        return await fetchrow(self, name, *args, idempotent=idempotent)

    controllers = {f"s{number}": RecordingController() for number in range(20)}
    async with PostgresStreamSessionManager(database_url) as streams:
        for id, controller in controllers.items():
            await streams.create(id, controller)
            await streams.send([id], "x")
            await controller.count(1)
        monkeypatch.setattr(Statements, "fetchrow", failing)
    assert {controller.closed for controller in controllers.values()} == {CloseReason.SHUTDOWN}
    assert tried < len(controllers)


class Stuck(RecordingController):
    """One whose client takes nothing."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        await super().write(events)
        await asyncio.Event().wait()


async def test_a_stream_that_was_taken_over_is_told_so_though_its_manager_closes(database_url: str) -> None:
    first = Stuck()
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.create("s", first)
        await streams.send(["s"], "x")
        await first.count(1)
        await streams.create("s", RecordingController())
    assert first.closed is CloseReason.CUT_OFF
