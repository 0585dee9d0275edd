from __future__ import annotations

import asyncpg

from tests.cli.support import command, ended
from tmcp_serverless.postgres import schema

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/x"


async def tables(database_url: str) -> set[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def test_it_makes_the_tables_once(database_url: str) -> None:
    first = ended(command("migrate", TMCP_DATABASE_URL=database_url))
    assert first[0] == 0
    assert first[1].startswith("Applied ")
    assert {"tmcp_sessions", "tmcp_session_subscriptions"} <= await tables(database_url)
    assert ended(command("migrate", "--database-url", database_url)) == (0, "Everything is up to date.\n", "")


async def test_what_it_prints_is_the_same_as_what_it_does(database_url: str) -> None:
    code, script, _ = ended(command("migrate", "--print", TMCP_DATABASE_URL=UNREACHABLE))
    assert (code, script) == (0, schema.script())
    connection = await asyncpg.connect(database_url)
    await connection.execute(script)
    await connection.close()
    assert ended(command("migrate", "--database-url", database_url))[1] == "Everything is up to date.\n"


def test_without_a_database_it_says_which_variable() -> None:
    sentence = "Error: There is no database: set TMCP_DATABASE_URL, or pass --database-url.\n"
    assert ended(command("migrate")) == (2, "", sentence)


def test_a_database_that_is_not_there_is_one_sentence() -> None:
    code, output, errors = ended(command("migrate", "--database-url", UNREACHABLE))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("Error: ")
