from __future__ import annotations

import re

import asyncpg
import pytest

from tests.cli.support import run, run_aside
from tmcp_serverless import Database, PostgresInfoSessionManager, PostgresStreamSessionManager, SchemaError
from tmcp_serverless.postgres import components, schema
from tmcp_serverless.postgres.components import Component

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/x"


async def tables(database_url: str) -> set[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def test_it_makes_the_tables_once(empty_database_url: str) -> None:
    first = await run_aside("migrate", TMCP_DATABASE_URL=empty_database_url)
    assert first[0] == 0
    assert first[1].startswith("Applied ")
    assert {"tmcp_sessions", "tmcp_session_subscriptions"} <= await tables(empty_database_url)
    assert await run_aside("migrate", "--database-url", empty_database_url) == (
        0,
        "Everything is up to date.\n",
        "",
    )


async def test_what_it_prints_is_the_same_as_what_it_does(empty_database_url: str) -> None:
    code, script, _ = await run_aside("migrate", "--print", TMCP_DATABASE_URL=UNREACHABLE)
    assert (code, script) == (0, schema.script())
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(script)
    await connection.close()
    assert (await run_aside("migrate", "--database-url", empty_database_url))[
        1
    ] == "Everything is up to date.\n"


async def test_a_later_migration_is_applied_to_the_tables_that_are_there(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await schema.migrate(empty_database_url) == ["streams_0001", "info_0001", "keys_0001"]
    migrations = Component.migrations

    def with_another(self: Component) -> list[tuple[int, str]]:
        return [*migrations(self), (2, f"ALTER TABLE {self.tables['context']} ADD COLUMN later text")]

    later = components.info_component(schema="public")
    monkeypatch.setattr(Component, "migrations", with_another)
    async with Database(empty_database_url) as database:
        with pytest.raises(SchemaError, match=r"found version 1, need 2.*tmcp-serverless migrate"):
            await schema.ensure(database, later, create=False)
        assert await schema.ensure(database, later, create=True) == ["info_0002"]
        assert await schema.ensure(database, later, create=True) == []
    monkeypatch.undo()
    # After a rollback, the older release works over the newer tables.
    assert await schema.migrate(empty_database_url) == []


DEVELOPMENT = (
    'streams: "tmcp_mailboxes", "tmcp_messages", "tmcp_sessions"',
    (
        'info: "tmcp_session_client_capabilities", "tmcp_session_client_info", "tmcp_session_context", '
        '"tmcp_session_log_level", "tmcp_session_subscriptions"'
    ),
)
"""The names that versions before the first release recorded their tables under."""


async def test_tables_of_a_development_version_are_refused_with_the_way_out(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        "CREATE TABLE tmcp_schema (component text PRIMARY KEY, version integer NOT NULL)"
    )
    await connection.executemany("INSERT INTO tmcp_schema VALUES ($1, 3)", [(name,) for name in DEVELOPMENT])
    await connection.close()
    way_out = r"development version.*remove.*\"tmcp_schema\".*tmcp-serverless migrate"
    code, _, errors = await run_aside("migrate", "--database-url", empty_database_url)
    assert (code, errors.count("\n")) == (1, 1)
    assert re.search(way_out, errors)
    assert await tables(empty_database_url) == {"tmcp_schema"}
    for kind in (PostgresStreamSessionManager, PostgresInfoSessionManager):
        async with kind(empty_database_url) as manager:
            with pytest.raises(SchemaError, match=way_out):
                await manager.check()
    _, doctors, _ = await run_aside("doctor", TMCP_DATABASE_URL=empty_database_url)
    assert doctors.count("development version") == 2
    async with Database(empty_database_url) as database:
        await database.fetch("DROP TABLE tmcp_schema", idempotent=False)
    assert (await run_aside("migrate", "--database-url", empty_database_url))[0] == 0


def test_without_a_database_it_says_which_variable() -> None:
    sentence = "Error: There is no database: set TMCP_DATABASE_URL, or pass --database-url.\n"
    assert run("migrate") == (2, "", sentence)


def test_a_database_that_is_not_there_is_one_sentence() -> None:
    code, output, errors = run("migrate", "--database-url", UNREACHABLE)
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("Error: ")
