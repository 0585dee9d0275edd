"""A real Postgres for every test that touches one, with a database of its own."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from tmcp_serverless.testing.postgres import EmbeddedPostgres, create_database_sync, list_binaries

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["tests.support.fixtures"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Generator[str]:
    """The server that tests share: TMCP_TEST_DATABASE_URL, or an embedded one."""
    given = os.environ.get("TMCP_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with EmbeddedPostgres(durable=False) as postgres:
        yield postgres.dsn


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """An empty database of this test's own."""
    return create_database_sync(postgres_url, f"t_{uuid.uuid4().hex}")


@pytest.fixture
def own_postgres() -> Generator[EmbeddedPostgres]:
    """A server of this test's own, to stop and to break."""
    with EmbeddedPostgres(durable=False) as postgres:
        yield postgres


def _oldest_and_newest() -> list[int]:
    majors = sorted({binaries.major for binaries in list_binaries()})
    return sorted({majors[0], majors[-1]}) if majors else []


@pytest.fixture(scope="session", params=_oldest_and_newest())
def each_database_url(request: pytest.FixtureRequest) -> Generator[str]:
    """A database on the oldest and one on the newest major version that is on this machine."""
    with EmbeddedPostgres(version=request.param, durable=False) as postgres:
        yield postgres.dsn
