"""A real Postgres for every test that touches one, with a database of its own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.shared_postgres import SharedPostgres
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.testing.postgres import EmbeddedPostgres, create_database_sync, list_binaries

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["tests.support.fixtures"]

_shared = pytest.StashKey[SharedPostgres]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_shared] = SharedPostgres()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_shared].close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shared = config.stash[_shared]
    if shared.found or shared.passed_over:
        terminalreporter.write_line(f"Postgres: {shared}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """The server that tests share, see `tests.support.shared_postgres`."""
    shared = pytestconfig.stash[_shared]
    url = shared.open()
    if url is None:
        pytest.skip(f"there is no Postgres: {'; '.join(shared.passed_over)}")
    return url


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """An empty database of this test's own."""
    return create_database_sync(postgres_url, f"t_{uuid.uuid4().hex}")


@pytest.fixture
def own_postgres() -> Generator[EmbeddedPostgres]:
    """A server of this test's own, to stop and to break."""
    try:
        postgres = EmbeddedPostgres(durable=False).start()
    except ConfigurationError as error:
        pytest.skip(str(error))
    with postgres:
        yield postgres


def _oldest_and_newest() -> list[int]:
    majors = sorted({binaries.major for binaries in list_binaries()})
    return sorted({majors[0], majors[-1]}) if majors else []


@pytest.fixture(scope="session", params=_oldest_and_newest())
def each_database_url(request: pytest.FixtureRequest) -> Generator[str]:
    """A database on the oldest and one on the newest major version that is on this machine."""
    with EmbeddedPostgres(version=request.param, durable=False) as postgres:
        yield postgres.dsn
