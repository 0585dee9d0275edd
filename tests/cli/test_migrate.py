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


async def test_it_makes_the_tables_once(empty_database_url: str) -> None:
    first = ended(command("migrate", TMCP_DATABASE_URL=empty_database_url))
    assert first[0] == 0
    assert first[1].startswith("Applied ")
    assert {"tmcp_sessions", "tmcp_session_subscriptions"} <= await tables(empty_database_url)
    assert ended(command("migrate", "--database-url", empty_database_url)) == (
        0,
        "Everything is up to date.\n",
        "",
    )


async def test_what_it_prints_is_the_same_as_what_it_does(empty_database_url: str) -> None:
    code, script, _ = ended(command("migrate", "--print", TMCP_DATABASE_URL=UNREACHABLE))
    assert (code, script) == (0, schema.script())
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(script)
    await connection.close()
    assert ended(command("migrate", "--database-url", empty_database_url))[1] == "Everything is up to date.\n"


async def test_a_database_of_the_first_release_is_brought_up_to_date(empty_database_url: str) -> None:
    component = schema.info_component()
    (_, first), *later = component.migrations()
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(first)
    await connection.execute(
        "CREATE TABLE tmcp_schema (component text PRIMARY KEY, version integer NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())"
    )
    # As that release wrote it: a component is found by this name for ever.
    await connection.execute(
        "INSERT INTO tmcp_schema (component, version) VALUES ($1, 1)",
        'info: "tmcp_session_client_capabilities", "tmcp_session_client_info", "tmcp_session_context", '
        '"tmcp_session_log_level", "tmcp_session_subscriptions"',
    )
    await connection.close()
    code, output, _ = ended(command("migrate", "--database-url", empty_database_url))
    applied = [line for line in output.splitlines() if "info" in line]
    assert (code, applied) == (0, [f"Applied info_{version:04}." for version, _ in later])


def test_without_a_database_it_says_which_variable() -> None:
    sentence = "Error: There is no database: set TMCP_DATABASE_URL, or pass --database-url.\n"
    assert ended(command("migrate")) == (2, "", sentence)


def test_a_database_that_is_not_there_is_one_sentence() -> None:
    code, output, errors = ended(command("migrate", "--database-url", UNREACHABLE))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("Error: ")
