"""What tests stand on does what they take for granted."""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from local.alone import alone_with
from tests.support.databases import Databases

if TYPE_CHECKING:
    from pathlib import Path

    from tmcp_serverless.testing.postgres import EmbeddedPostgres


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
