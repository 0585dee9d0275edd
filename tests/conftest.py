"""A real Postgres for every test that touches one, with a database of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.databases import Databases
from tests.support.durations import Durations, read_record
from tests.support.groups import Groups
from tests.support.processes import Processes, serving_everybody
from tests.support.reruns import Reruns
from tests.support.shared_postgres import SharedPostgres
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.testing.postgres import EmbeddedPostgres, list_binaries

if TYPE_CHECKING:
    from collections.abc import Generator

# As in the Makefile: workers, and the processes that tests start, find what another has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["tests.support.fixtures"]

_shared = pytest.StashKey[SharedPostgres]()
_used = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help="write tests/durations.json anew")
    parser.addoption("--quick", action="store_true", help="leave out processes, databases and slow tests")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_shared] = SharedPostgres()
    config.stash[_used] = set()
    recorded = frozenset[str](read_record()["processes"])
    config.pluginmanager.register(Processes(quick=bool(config.getoption("--quick")), recorded=recorded))
    config.pluginmanager.register(Durations(config))
    config.pluginmanager.register(Groups())
    config.pluginmanager.register(Reruns())


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_shared].close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell which server was used; a worker tells the process that has started it."""
    shared = session.config.stash[_shared]
    if shared.found or shared.passed_over:
        output: dict[str, str] | None = getattr(session.config, "workeroutput", None)
        if output is None:
            session.config.stash[_used].add(str(shared))
        else:
            output["postgres"] = str(shared)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if told := getattr(node, "workeroutput", {}).get("postgres"):
        node.config.stash[_used].add(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for shared in sorted(config.stash[_used]):
        terminalreporter.write_line(f"Postgres: {shared}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """The server that tests share, see `tests.support.shared_postgres`."""
    shared = pytestconfig.stash[_shared]
    with serving_everybody():
        url = shared.open()
    if url is None:
        pytest.skip(f"there is no Postgres: {'; '.join(shared.passed_over)}")
    return url


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Generator[Databases]:
    """The databases of this run, see `tests.support.databases`."""
    with Databases(postgres_url) as databases:
        yield databases


@pytest.fixture
def database_url(databases: Databases) -> Generator[str]:
    """A database of this test's own, with the tables in place."""
    url = databases.take()
    yield url
    databases.give_back(url)


@pytest.fixture
def empty_database_url(databases: Databases) -> Generator[str]:
    """A database of this test's own, without tables: for what is about making them."""
    url = databases.take_empty()
    yield url
    databases.give_back(url)


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
