"""The bus for those who only subscribe, as the SDK's own handler does: it hears on, and cleans up."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from tests.support.waiting import eventually
from tmcp_serverless import (
    ConfigurationError,
    InMemoryEventTopic,
    PostgresStreamSessionManager,
    PostgresSubscriptionBus,
    StoreUnavailableError,
)
from tmcp_serverless.modern.bus import StreamSubscriptionBus
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

LISTENING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE '%listen'"
)


@pytest.fixture
def breakable() -> Generator[EmbeddedPostgres]:
    """A server of this test's own, to abort and to start again: what was committed is kept."""
    try:
        postgres = EmbeddedPostgres(durable=False, settings={"synchronous_commit": "on"}).start()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with postgres:
        yield postgres


@asynccontextmanager
async def new_bus(dsn: str) -> AsyncGenerator[PostgresSubscriptionBus]:
    """Make a bus whose leases, and so the patience of whose doorbell, last a second."""
    async with (
        PostgresStreamSessionManager(
            dsn, doorbell="listen", lease_seconds=1, heartbeat_seconds=0.3
        ) as streams,
        PostgresSubscriptionBus(streams) as bus,
    ):
        yield bus


async def hears(bus: PostgresSubscriptionBus, heard: list[ServerEvent], *, seconds: float = 60.0) -> None:
    """Publish until an event is heard: when a subscription holds, nobody says."""
    before = len(heard)

    async def said() -> bool:
        await bus.publish(ToolsListChanged())
        await asyncio.sleep(0.1)
        return len(heard) > before

    await eventually(said, seconds=seconds)


async def listening(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(LISTENING)
    finally:
        await connection.close()


async def settled(bus: PostgresSubscriptionBus) -> None:
    """Wait until the background has seen to the watch."""
    own: Any = bus

    async def done() -> bool:
        return own._reconciling is None or own._reconciling.done()

    await eventually(done)


async def test_it_hears_on_after_the_store_was_away_for_longer_than_a_lease(
    breakable: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tmcp_serverless.modern.bus")
    heard: list[ServerEvent] = []
    async with new_bus(breakable.dsn) as bus:
        bus.subscribe(heard.append)
        await hears(bus, heard)
        breakable.stop_immediately()

        async def lost() -> bool:
            return "the watch was closed" in caplog.text

        await eventually(lost, seconds=30)
        breakable.start()
        await hears(bus, heard)


async def test_it_tries_again_where_the_store_was_away_at_first(
    breakable: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[ServerEvent] = []
    async with new_bus(breakable.dsn) as bus:
        await bus.publish(ToolsListChanged())
        breakable.stop_immediately()
        bus.subscribe(heard.append)

        async def failed() -> bool:
            return "not heard" in caplog.text

        await eventually(failed)
        breakable.start()
        await hears(bus, heard)


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 100])
async def test_who_unsubscribes_while_the_watch_is_being_opened_leaves_none(
    database_url: str, turns: int
) -> None:
    """`turns`: how many times the event loop goes round before; some are before a connection, some behind."""
    async with PostgresStreamSessionManager(database_url, doorbell="listen") as streams:
        await streams.prepare("first")
        async with PostgresSubscriptionBus(streams) as bus:
            unsubscribe = bus.subscribe(lambda _: None)
            for _ in range(turns):
                await asyncio.sleep(0)
            unsubscribe()
            await settled(bus)
            assert await listening(database_url) == 0


async def test_who_comes_while_the_watch_is_being_given_back_hears(database_url: str) -> None:
    heard: list[ServerEvent] = []
    async with new_bus(database_url) as bus:
        unsubscribe = bus.subscribe(lambda _: None)

        async def watched() -> bool:
            return await listening(database_url) == 1

        await eventually(watched)
        unsubscribe()
        await asyncio.sleep(0)
        bus.subscribe(heard.append)
        await hears(bus, heard)


async def test_streams_that_are_open_when_it_is_closed_end_without_an_error(database_url: str) -> None:
    bus = PostgresSubscriptionBus(database_url, doorbell="listen")
    begun = asyncio.Event()

    async def stream() -> str:
        ended = asyncio.Event()
        async with bus.listening(ended.set):
            begun.set()
            await ended.wait()
        return "ended"

    async with asyncio.timeout(30):
        task = asyncio.create_task(stream())
        await begun.wait()
        await bus.aclose()
        assert await task == "ended"
    await bus.aclose()
    assert await listening(database_url) == 0


async def test_a_stream_ends_without_an_error_while_the_store_is_away(breakable: EmbeddedPostgres) -> None:
    """Also where another has not ended yet: who leaves does not open the watch for who stays."""
    lost = asyncio.Event()
    async with new_bus(breakable.dsn) as bus, asyncio.timeout(40):
        async with bus.listening(lambda: None):
            async with bus.listening(lost.set):
                breakable.stop_immediately()
                await lost.wait()
            with pytest.raises(StoreUnavailableError):
                await bus.listening(lambda: None).__aenter__()
        breakable.start()


async def test_when_its_store_is_closed_first_it_does_not_watch_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresSubscriptionBus, "again_seconds", 0.01)
    streams = PostgresStreamSessionManager(database_url, doorbell="listen")
    heard: list[ServerEvent] = []
    async with PostgresSubscriptionBus(streams) as bus:
        bus.subscribe(heard.append)
        await hears(bus, heard)
        await streams.aclose()
        await asyncio.sleep(0.3)  # It has time to watch again: that has to be given time to be wrong.
        assert await listening(database_url) == 0


async def test_those_who_only_subscribe_and_streams_share_one_watch(database_url: str) -> None:
    heard: list[ServerEvent] = []
    async with new_bus(database_url) as bus:
        unsubscribe = bus.subscribe(heard.append)
        async with bus.listening(lambda: None):
            await hears(bus, heard)
            assert await listening(database_url) == 1
        await hears(bus, heard)
        async with bus.listening(lambda: None):
            unsubscribe()
            assert await listening(database_url) == 1

        async def nobody() -> bool:
            return await listening(database_url) == 0

        await eventually(nobody)


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def test_the_watch_of_who_only_subscribes_is_not_opened_as_the_user_whose_request_came_first() -> None:
    opened_by: list[str] = []

    class Asking(InMemoryEventTopic):
        def watch(self, controller: Any) -> Any:
            opened_by.append(WHO.get())
            return super().watch(controller)

    async with StreamSubscriptionBus(Asking()) as bus:
        token = WHO.set("alice")
        bus.subscribe(lambda _: None)
        WHO.reset(token)

        async def opened() -> list[str]:
            return opened_by

        assert await eventually(opened) == ["nobody"]


class ToolsAdded(ToolsListChanged):
    """What somebody makes of the SDK's event."""


async def test_every_event_of_the_sdk_is_heard_as_it_was_published_and_others_as_what_they_are() -> None:
    events = [ToolsListChanged(), PromptsListChanged(), ResourcesListChanged(), ResourceUpdated("note://one")]
    heard: list[ServerEvent] = []
    async with StreamSubscriptionBus(InMemoryEventTopic()) as bus:
        bus.subscribe(heard.append)
        async with bus.listening(lambda: None):
            for event in (*events, ToolsAdded()):
                await bus.publish(event)

            async def all_heard() -> bool:
                return len(heard) >= 5

            await eventually(all_heard)
    assert heard == [*events, ToolsListChanged()]
