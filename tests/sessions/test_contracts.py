"""The contract suite: in memory, on Postgres of every version here, and on bare subclasses."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bare_managers import BareInfo, BareStreams, bare_managers
from tests.support.fixtures import postgres_managers
from tests.support.slow_store import Slowness, slow_managers
from tmcp_serverless import (
    CloseReason,
    InfoSessionManager,
    InMemoryEventTopic,
    InMemoryInfoSessionManager,
    InMemoryKeyStore,
    InMemoryStreamSessionManager,
    PostgresStreamSessionManager,
    SessionManagers,
    SessionRecord,
    StoreUnavailableError,
)
from tmcp_serverless.testing.contracts import (
    EventTopicContract,
    InfoSessionManagerContract,
    KeyStoreContract,
    RecordingController,
    StreamSessionManagerContract,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

SEEDS = (1, 2)
SHORT_SECONDS = 0.002
"""The longest that a method of a slow store takes here: some tests make hundreds of calls."""


@pytest.fixture
async def new_managers_on_each(each_database_url: str) -> AsyncGenerator[Callable[[], SessionManagers]]:
    made: list[SessionManagers] = []

    def new() -> SessionManagers:
        made.append(postgres_managers(each_database_url))
        return made[-1]

    yield new
    for managers in made:
        await managers.aclose()


class TestInMemoryStreams(StreamSessionManagerContract):
    @pytest.fixture
    def new_manager(self) -> Callable[[], InMemoryStreamSessionManager]:  # type: ignore[override]
        manager = InMemoryStreamSessionManager()
        return lambda: manager


class TestInMemoryInfo(InfoSessionManagerContract):
    @pytest.fixture
    def new_manager(self) -> Callable[[], InMemoryInfoSessionManager]:  # type: ignore[override]
        manager = InMemoryInfoSessionManager()
        return lambda: manager


class TestSlowStreams(StreamSessionManagerContract):
    """Slow managers keep the contract: what tests show over them is not of their own making."""

    @pytest.fixture(params=SEEDS)
    def new_manager(self, request: pytest.FixtureRequest) -> Any:
        managers = slow_managers(Slowness(request.param, most_seconds=SHORT_SECONDS))
        return lambda: managers.streams


class TestSlowInfo(InfoSessionManagerContract):
    @pytest.fixture(params=SEEDS)
    def new_manager(self, request: pytest.FixtureRequest) -> Any:
        managers = slow_managers(Slowness(request.param, most_seconds=SHORT_SECONDS))
        return lambda: managers.info


class TestPostgresStreams(StreamSessionManagerContract):
    @pytest.fixture
    def new_manager(self, new_managers_on_each: Callable[[], SessionManagers]) -> Any:
        return lambda: new_managers_on_each().streams


class TestPollingStreams(StreamSessionManagerContract):
    @pytest.fixture
    async def new_manager(self, database_url: str) -> Any:
        made: list[PostgresStreamSessionManager] = []

        def new() -> PostgresStreamSessionManager:
            made.append(PostgresStreamSessionManager(database_url, doorbell="poll"))
            return made[-1]

        yield new
        for manager in made:
            await manager.aclose()


class TestPostgresInfo(InfoSessionManagerContract):
    @pytest.fixture
    def new_manager(self, new_managers_on_each: Callable[[], SessionManagers]) -> Any:
        return lambda: new_managers_on_each().info


class TestInMemoryEvents(EventTopicContract):
    @pytest.fixture
    def new_topic(self) -> Callable[[], InMemoryEventTopic]:  # type: ignore[override]
        topic = InMemoryEventTopic()
        return lambda: topic


class TestEventsOfOneProcess(EventTopicContract):
    """The topic of managers that are given none."""

    @pytest.fixture
    def new_topic(self) -> Any:
        managers = bare_managers()
        return lambda: managers.topic


class TestSlowEvents(EventTopicContract):
    @pytest.fixture(params=SEEDS)
    def new_topic(self, request: pytest.FixtureRequest) -> Any:
        managers = slow_managers(Slowness(request.param, most_seconds=SHORT_SECONDS))
        return lambda: managers.events


class TestPostgresEvents(EventTopicContract):
    @pytest.fixture
    def new_topic(self, new_managers_on_each: Callable[[], SessionManagers]) -> Any:
        return lambda: new_managers_on_each().events


class TestPollingEvents(EventTopicContract):
    @pytest.fixture
    async def new_topic(self, database_url: str) -> Any:
        async with AsyncExitStack() as stack:
            made: list[PostgresStreamSessionManager] = []

            def new() -> Any:
                made.append(PostgresStreamSessionManager(database_url, doorbell="poll"))
                stack.push_async_callback(made[-1].aclose)
                return made[-1].events

            yield new


class TestInMemoryKeys(KeyStoreContract):
    @pytest.fixture
    def new_manager(self) -> Callable[[], InMemoryKeyStore]:  # type: ignore[override]
        store = InMemoryKeyStore()
        return lambda: store


class TestSlowKeys(KeyStoreContract):
    @pytest.fixture(params=SEEDS)
    def new_manager(self, request: pytest.FixtureRequest) -> Any:
        managers = slow_managers(Slowness(request.param, most_seconds=SHORT_SECONDS))
        return lambda: managers.keys


class TestPostgresKeys(KeyStoreContract):
    @pytest.fixture
    def new_manager(self, new_managers_on_each: Callable[[], SessionManagers]) -> Any:
        return lambda: new_managers_on_each().keys


ODD: dict[str, Any] = {"namespace": "Größe: {events} 'x' a/b", "schema": 'Odd "schema"'}


@pytest.fixture(params=["listen", "poll"])
async def new_odd_managers(
    empty_database_url: str, request: pytest.FixtureRequest
) -> AsyncGenerator[Callable[[], SessionManagers]]:
    """Managers of a namespace and a schema that have to be quoted, beside others of the default ones."""
    made: list[SessionManagers] = [postgres_managers(empty_database_url)]
    await made[0].check()

    def new() -> SessionManagers:
        options = {"streams": {**ODD, "doorbell": request.param}, "info": ODD}
        made.append(postgres_managers(empty_database_url, **options))
        return made[-1]

    yield new
    for managers in made:
        await managers.aclose()


class TestOddStreams(StreamSessionManagerContract):
    @pytest.fixture
    def new_manager(self, new_odd_managers: Callable[[], SessionManagers]) -> Any:
        return lambda: new_odd_managers().streams


class TestOddEvents(EventTopicContract):
    @pytest.fixture
    def new_topic(self, new_odd_managers: Callable[[], SessionManagers]) -> Any:
        return lambda: new_odd_managers().events


class TestOddInfo(InfoSessionManagerContract):
    @pytest.fixture
    def new_manager(self, new_odd_managers: Callable[[], SessionManagers]) -> Any:
        return lambda: new_odd_managers().info


class TestOddKeys(KeyStoreContract):
    @pytest.fixture
    def new_manager(self, new_odd_managers: Callable[[], SessionManagers]) -> Any:
        return lambda: new_odd_managers().keys


class TestBareStreams(StreamSessionManagerContract):
    @pytest.fixture
    def new_manager(self) -> Callable[[], BareStreams]:  # type: ignore[override]
        manager = BareStreams()
        return lambda: manager


class TestBareInfo(InfoSessionManagerContract):
    @pytest.fixture
    def new_manager(self) -> Callable[[], BareInfo]:  # type: ignore[override]
        manager = BareInfo()
        return lambda: manager


@pytest.mark.parametrize("meta", ["text", None, 7, [], ["text"], True, {}, {"a": {"b": 1}}])
@pytest.mark.parametrize("kind", [BareInfo, InMemoryInfoSessionManager])
async def test_a_clients_own_meta_is_kept_whatever_it_is(kind: type[InfoSessionManager], meta: Any) -> None:
    manager = kind()
    record = SessionRecord(
        protocol_version="2025-11-25",
        client_info={"name": "c", "version": "1", "_meta": meta},
        client_capabilities={},
    )
    await manager.initialize("id", record)
    assert await manager.load("id") == record
    await manager.update("id", initialized=True)
    assert await manager.load("id") == replace(record, initialized=True)
    assert await manager.load("id", principal="somebody else") is None


class Noting(InMemoryInfoSessionManager):
    """Remembers that it has been let go of, and closed."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    async def disconnect(self) -> None:
        self._said.append("disconnected")

    async def aclose(self) -> None:
        self._said.append("closed")


class Failing(InMemoryStreamSessionManager):
    async def disconnect(self) -> None:
        raise StoreUnavailableError("away")


async def test_both_managers_are_let_go_of_though_one_fails() -> None:
    said: list[str] = []
    managers = SessionManagers(streams=Failing(), info=Noting(said))
    with pytest.raises(StoreUnavailableError):
        await managers.disconnect()
    assert said == ["disconnected"]


async def test_both_managers_are_closed_when_they_are_left() -> None:
    said: list[str] = []
    streams = InMemoryStreamSessionManager()
    controller = RecordingController()
    async with SessionManagers(streams=streams, info=Noting(said)) as managers:
        await managers.streams.create("id", controller)
    assert said == ["closed"]
    assert await controller.end() is CloseReason.SHUTDOWN


@pytest.mark.parametrize("meta", ["text", None, {}])
async def test_what_was_not_initialized_is_no_session(meta: Any) -> None:
    manager = BareInfo()
    await manager.set_client_info("id", {"name": "c", "_meta": meta})
    await manager.update("id", initialized=True)
    assert await manager.load("id") is None
