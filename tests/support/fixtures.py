"""Managers and handlers for tests, in memory and over Postgres, closed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeAlias

import pytest

from tests.support.slow_store import Slowness, slow_managers
from tmcp_serverless import (
    Database,
    Handler,
    InMemoryEventTopic,
    InMemoryInfoSessionManager,
    InMemoryKeyStore,
    InMemoryStreamSessionManager,
    PostgresInfoSessionManager,
    PostgresKeyStore,
    PostgresStreamSessionManager,
    SessionManagers,
    create_handler,
)

NewManagers: TypeAlias = Callable[..., SessionManagers]
"""Each call is another instance over the same store."""

NewHandler: TypeAlias = Callable[..., Handler]
"""Each call is another instance that serves the given server over the same store."""


@pytest.fixture
def sandbox_loop() -> Generator[asyncio.AbstractEventLoop]:
    """The one event loop of a sandbox on AWS's own runtime."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run what is run over several stores over a slow one only, with this seed"
    parser.addoption("--slow-store", type=int, metavar="SEED", help=text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "new_managers" in metafunc.fixturenames:
        seed: int | None = metafunc.config.getoption("--slow-store")
        stores = ["memory", "postgres"] if seed is None else [f"slow-{seed}"]
        if metafunc.config.getoption("--quick"):
            stores = [store for store in stores if store != "postgres"]
        if seed is None and metafunc.definition.get_closest_marker("slow_store"):
            stores.append("slow-1")
        metafunc.parametrize("new_managers", stores, indirect=True)


@pytest.fixture
async def new_managers(request: pytest.FixtureRequest) -> AsyncGenerator[NewManagers]:
    made: list[SessionManagers] = []
    shared = SessionManagers(
        streams=InMemoryStreamSessionManager(),
        info=InMemoryInfoSessionManager(),
        events=InMemoryEventTopic(),
        keys=InMemoryKeyStore(),
    )
    if request.param.startswith("slow-"):
        shared = slow_managers(Slowness(int(request.param.removeprefix("slow-"))), shared)
    url: str | None = request.getfixturevalue("database_url") if request.param == "postgres" else None

    def new(**options: Any) -> SessionManagers:
        if url is None:
            return shared
        made.append(postgres_managers(url, **options))
        return made[-1]

    yield new
    for managers in (shared, *made):
        await managers.aclose()


@pytest.fixture
async def new_handler(new_managers: NewManagers) -> AsyncGenerator[NewHandler]:
    made: list[Handler] = []

    def new(server: Any, **options: Any) -> Handler:
        handler = create_handler(server, session_manager=new_managers(), **options)
        made.append(handler)
        return handler

    yield new
    for handler in made:
        await handler.aclose()


@pytest.fixture
async def new_postgres_handler(database_url: str) -> AsyncGenerator[NewHandler]:
    made: list[Handler] = []

    def new(server: Any, **options: Any) -> Handler:
        handler = create_handler(server, database_url=database_url, **options)
        made.append(handler)
        return handler

    yield new
    for handler in made:
        await handler.aclose()


def postgres_managers(
    url: str,
    *,
    streams: dict[str, Any] | None = None,
    info: dict[str, Any] | None = None,
    keys: dict[str, Any] | None = None,
) -> SessionManagers:
    """Return managers that share a database; the keys are where the metadata is, unless it is said."""
    database = Database(url)
    shared = {
        name: value for name, value in (info or {}).items() if name in ("namespace", "schema", "create")
    }
    stream_manager = PostgresStreamSessionManager(database, **(streams or {}))
    return SessionManagers(
        streams=stream_manager,
        info=PostgresInfoSessionManager(database, **(info or {})),
        events=stream_manager.events,
        keys=PostgresKeyStore(database, **(shared if keys is None else keys)),
        resources=(database,),
    )
