"""What a handler opens, and what is closed with it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer

from tests.differential.wire import lifespan
from tests.support.activity import connections
from tests.support.client import Client
from tests.support.fixtures import postgres_managers
from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless import create_handler
from tmcp_serverless.modern import StreamSubscriptionBus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewManagers


async def none_are_open(dsn: str) -> bool:
    return not await connections(dsn)


def raising_at_its_end() -> MCPServer[Any]:
    @asynccontextmanager
    async def raising(_: object) -> AsyncGenerator[None]:
        yield
        raise RuntimeError("it does not end")

    return MCPServer("raising", log_level="ERROR", lifespan=raising)


async def test_the_connections_are_closed_when_the_asgi_server_stops_and_opened_again_when_it_starts(
    database_url: str,
) -> None:
    app = create_handler(small_server(), database_url=database_url).app

    for _ in range(2):
        async with lifespan(app):
            client = await Client(app).initialize()
            async with client.listen() as stream:
                await stream.begun()
                assert await client.call("add", a=1, b=2) == "3"
            assert await connections(database_url)
        # The database is told of the end by a message that nobody waits for.
        await eventually(lambda: none_are_open(database_url))


async def test_a_lifespan_that_raises_at_its_end_is_told_to_the_asgi_server_and_the_rest_is_closed(
    database_url: str,
) -> None:
    app = create_handler(raising_at_its_end(), database_url=database_url).app
    with pytest.raises(RuntimeError, match=r"lifespan\.shutdown\.failed.*it does not end"):
        async with lifespan(app):
            await Client(app).initialize()
    await eventually(lambda: none_are_open(database_url))


async def test_a_handler_whose_lifespan_raises_at_its_end_closes_its_bus_and_its_managers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buses: list[StreamSubscriptionBus] = []

    class Kept(StreamSubscriptionBus):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            buses.append(self)

    monkeypatch.setattr("tmcp_serverless.transports.StreamSubscriptionBus", Kept)
    handler = create_handler(raising_at_its_end())
    ended: list[None] = []
    [bus] = buses
    await Client(handler.app).initialize()
    async with bus.listening(lambda: ended.append(None)):
        with pytest.raises(RuntimeError, match="it does not end"):
            await handler.aclose()
        assert ended
    await handler.aclose()


async def test_a_handler_ends_with_the_block_that_it_is_for(database_url: str) -> None:
    async with create_handler(small_server(), database_url=database_url) as handler:
        client = await Client(handler.app).initialize()
        async with client.listen() as stream:
            await stream.begun()
            await handler.aclose()
            await stream.until(lambda: stream.body_ended)
            assert stream.body_ended
    await eventually(lambda: none_are_open(database_url))


async def test_closing_a_handler_ends_its_own_streams_and_not_those_of_others_over_the_same_managers(
    new_managers: NewManagers,
) -> None:
    managers = new_managers()
    one, other = (create_handler(small_server(), session_manager=managers) for _ in range(2))
    here, there = await Client(one.app).initialize(), await Client(other.app).initialize()
    async with here.listen() as ending, there.listen() as going_on:
        await ending.begun()
        await going_on.begun()
        await one.aclose()
        await ending.until(lambda: ending.body_ended)
        assert ending.body_ended
        await other.notifier.tools_changed()
        await going_on.until(lambda: bool(going_on.messages))
        assert not going_on.body_ended
    assert await there.call("add", a=1, b=2) == "3"
    await other.aclose()


async def test_session_managers_that_were_given_are_closed_by_who_gave_them(database_url: str) -> None:
    managers = postgres_managers(database_url)
    app = create_handler(small_server(), session_manager=managers).app
    async with lifespan(app):
        await Client(app).initialize()
    assert await connections(database_url)
    await managers.aclose()
    await eventually(lambda: none_are_open(database_url))
