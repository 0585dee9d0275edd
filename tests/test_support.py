"""What tests stand on does what they take for granted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from local.alone import alone_with
from tests.support.databases import Databases
from tests.support.watchdog import Watchdog

if TYPE_CHECKING:
    from tmcp_serverless.testing.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[1]


async def rows(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def test_a_database_has_the_tables_and_what_another_test_wrote_is_not_in_them(
    databases: Databases,
) -> None:
    first = databases.take()
    await rows(first, "INSERT INTO tmcp_session_subscriptions VALUES ('s', 'a://1')")
    databases.give_back(first)
    second = databases.take()
    assert second != first
    assert await rows(second, "SELECT FROM tmcp_session_subscriptions") == []
    databases.give_back(second)


async def test_an_empty_database_has_no_tables(empty_database_url: str) -> None:
    assert await rows(empty_database_url, "SELECT FROM pg_tables WHERE schemaname = 'public'") == []


async def test_no_database_is_left_on_the_server(own_postgres: EmbeddedPostgres) -> None:
    there = "SELECT datname FROM pg_database ORDER BY 1"
    before = await rows(own_postgres.dsn, there)
    with Databases(own_postgres.dsn) as databases:
        for url in (databases.take(), databases.take(), databases.take_empty()):
            databases.give_back(url)
        unreturned = databases.take()
        assert unreturned.rpartition("/")[2] in str(await rows(own_postgres.dsn, there))
        databases.give_back(unreturned)
    assert await rows(own_postgres.dsn, there) == before


def test_what_a_test_does_to_the_variables_does_not_keep_the_next_one_from_its_database(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases.give_back(databases.take())
    monkeypatch.setenv("PGSSLMODE", "none of them")
    for _ in range(4):
        databases.give_back(databases.take())


RERUNS = {
    "conftest.py": """
from tests.support.groups import Groups
from tests.support.reruns import Reruns

def pytest_configure(config):
    config.pluginmanager.register(Groups())
    config.pluginmanager.register(Reruns())
""",
    "tests/test_flaky.py": """
import time
import pytest

attempts, made = [], []

@pytest.fixture(scope="module")
def expensive():
    made.append(1)

def test_second_attempt(expensive):
    attempts.append(1)
    assert len(attempts) == 2, "the first error"

def test_wide_fixture_stays(expensive):
    assert made == [1]

@pytest.mark.timeout(2)
def test_hangs_in_its_second_attempt(expensive):
    attempts.append(1)
    assert len(attempts) != 3, "fails at once"
    time.sleep(600)

def test_fails_every_time():
    raise ValueError("as ever")
""",
}


def test_what_failed_runs_again_is_listed_and_stays_under_its_limit(tmp_path: Path) -> None:
    for name, text in RERUNS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses", "2")
    done = subprocess.run(
        [*command, "--dist", "loadgroup", "--reruns", "2", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    group = "tests/test_flaky.py:expensive"
    assert "tests that ran again: 3" in done.stdout
    for again in (
        f"test_second_attempt@{group} - AssertionError: the first error",
        f"test_hangs_in_its_second_attempt@{group} - AssertionError: fails at once",
        "test_fails_every_time - ValueError: as ever",
    ):
        assert f"RAN AGAIN tests/test_flaky.py::{again}" in done.stdout, done.stdout
    assert " 2 failed, 2 passed, 5 rerun in " in done.stdout.splitlines()[-1], done.stdout


def test_who_installs_into_a_folder_is_alone_with_it(tmp_path: Path) -> None:
    waits, entered, other = Event(), Event(), Event()

    def second() -> None:
        waits.set()
        with alone_with(tmp_path / "a"):
            entered.set()

    thread = Thread(target=second)
    with alone_with(tmp_path / "a"):
        with alone_with(tmp_path / "b"):
            other.set()
        thread.start()
        assert waits.wait(10)
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()


BUSY_SECONDS = 0.2


def busy(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


async def test_the_watchdog_finds_what_holds_the_loop_at_once_and_in_many_callbacks() -> None:
    loop, dog = asyncio.get_running_loop(), Watchdog()
    dog.start()
    await asyncio.sleep(0.01)
    dog.take()
    for _ in range(10):
        loop.call_soon(busy, BUSY_SECONDS / 10)
    await asyncio.sleep(0.01)
    found = dog.take()
    assert found.cpu >= BUSY_SECONDS
    assert found.wall >= found.cpu * 0.9
    for _ in range(10):
        busy(BUSY_SECONDS / 10)
        await asyncio.sleep(0.005)
    assert dog.take().cpu < found.cpu, "a tick came in between"


async def test_the_watchdog_finds_what_blocks_without_work() -> None:
    dog = Watchdog()
    dog.start()
    await asyncio.sleep(0.01)
    dog.take()
    time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - it shall block
    found = dog.take()
    assert found.wall >= BUSY_SECONDS * 0.9
    assert found.cpu < BUSY_SECONDS
