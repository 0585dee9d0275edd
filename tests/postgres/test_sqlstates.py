"""Every SQLSTATE of Postgres means an outage, a setting, missing tables, or a mistake of ours."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.roles import execute
from tmcp_serverless import (
    ConfigurationError,
    Database,
    PostgresInfoSessionManager,
    PostgresKeyStore,
    PostgresStreamSessionManager,
    SchemaError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

OUTAGES = {"08", "25", "40", "53", "55", "57", "58", "72", "F0", "HV", "XX", "YB", "CR", "99"}
CONFIGURATION = {"09", "0A", "0L", "0P", "27", "28", "2F", "38", "39", "3D", "44", "P0"}
MISTAKES = {"03", "0B", "0F", "0Z", "10", "20", "21", "22", "23", "24", "2B", "2D", "34", "3B", "42"}
SINGLE: dict[str, type[Exception]] = {
    **dict.fromkeys(
        ("22021", "22P05", "42501", "42804", "42809", "428C9", "42P10", "55P02"), ConfigurationError
    ),
    **dict.fromkeys(("3F000", "42P01", "42703", "42883"), SchemaError),
    **dict.fromkeys(("26000", "42P05", "54000", "54001"), StoreUnavailableError),
    **dict.fromkeys(("54011", "54023", "55P04"), asyncpg.PostgresError),
}
OF_OTHERS = ("YB001", "CR000", "99999", "58Z99", "08Z01")
"""Codes of other servers and of poolers, for which the driver has no class."""


def known() -> set[str]:
    codes: set[str] = {*OF_OTHERS}
    for name in dir(asyncpg.exceptions):
        code: str = getattr(getattr(asyncpg.exceptions, name), "sqlstate", None) or ""
        if len(code) == len("00000") and code[:2] not in ("00", "01", "02"):  # Which are no failures.
            codes.add(code)
    return codes


def expected(code: str) -> type[Exception]:
    if code in SINGLE:
        return SINGLE[code]
    if code[:2] in OUTAGES:
        return StoreUnavailableError
    return ConfigurationError if code[:2] in CONFIGURATION else asyncpg.PostgresError


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    await execute(
        database_url,
        "CREATE FUNCTION fail(code text) RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = code; END $$",
    )
    database = Database(database_url)
    yield database
    await database.aclose()


def test_every_class_is_in_one_list() -> None:
    classes = {code[:2] for code in known()}
    assert classes - OUTAGES - CONFIGURATION - MISTAKES - {code[:2] for code in SINGLE} == set()
    assert not OUTAGES & CONFIGURATION
    assert not MISTAKES & (OUTAGES | CONFIGURATION)
    assert len(known()) > 230


async def test_each_code_is_told_as_what_it_means(database: Database) -> None:
    wrong: dict[str, Any] = {}
    for code in sorted(known()):
        for idempotent in (True, False):
            with suppress(Exception):
                await database.fetchrow("SELECT 1", idempotent=True)
            try:
                await database.fetchrow("SELECT fail($1)", code, idempotent=idempotent)
            except Exception as error:  # noqa: BLE001 - which one it is, is the question
                told = isinstance(error, expected(code))
                if not told or isinstance(error, SchemaError) is not (expected(code) is SchemaError):
                    wrong[code] = error
                if "as if" not in str(error):
                    wrong[code] = f"the reason is missing: {error}"
    assert wrong == {}


async def test_a_connection_is_kept_where_the_server_only_refused_a_statement(database: Database) -> None:
    async def pid() -> int:
        row = await database.fetchrow("SELECT pg_backend_pid()", idempotent=True)
        assert row is not None
        return row[0]

    before = await pid()
    for code in ("55000", "55006", "54000", "F0000", "P0001", "0A000", "22P05"):
        with pytest.raises(Exception, match="as if"):
            await database.fetchrow("SELECT fail($1)", code, idempotent=False)
        assert await pid() == before, code


async def test_a_value_that_is_too_long_for_an_index_is_no_outage(database_url: str) -> None:
    """It is 54000, as a full NOTIFY queue is, and no later attempt changes it."""
    import secrets

    async with PostgresInfoSessionManager(database_url) as info:
        await info.check()
        database = Database(database_url)
        with pytest.raises(asyncpg.ProgramLimitExceededError):
            await database.fetchrow(
                "INSERT INTO tmcp_session_subscriptions (id, value) VALUES ('s', $1)",
                secrets.token_hex(8_000),
                idempotent=True,
            )
        await database.aclose()


TRIGGER = """\
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not here' USING ERRCODE = '{code}'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()
"""
TABLES = (
    *("tmcp_sessions", "tmcp_mailboxes", "tmcp_messages"),
    *("tmcp_session_context", "tmcp_session_subscriptions"),
    *("tmcp_secrets", "tmcp_spent"),
)


@pytest.mark.parametrize("table", TABLES)
async def test_readiness_writes_to_every_table_and_leaves_nothing(database_url: str, table: str) -> None:
    kind = PostgresInfoSessionManager if table.startswith("tmcp_session_") else PostgresStreamSessionManager
    kind = PostgresKeyStore if table in TABLES[-2:] else kind
    async with kind(database_url) as manager:
        await manager.check()
        connection = await asyncpg.connect(database_url)
        assert await connection.fetch(f"SELECT 1 FROM {table}") == []
        await connection.close()
        await execute(database_url, TRIGGER.format(code="P0001", table=table))
        with pytest.raises(ConfigurationError, match="not here"):
            await manager.check()
        await execute(database_url, f"DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse")
        await execute(database_url, TRIGGER.format(code="53100", table=table))
        with pytest.raises(StoreUnavailableError, match="not here"):
            await manager.check()


async def test_row_level_security_is_found_by_readiness(database_url: str) -> None:
    from tests.support.roles import poor_role

    async with poor_role(database_url) as (role, url):
        await execute(
            database_url,
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; "
            "ALTER TABLE tmcp_messages ENABLE ROW LEVEL SECURITY",
        )
        async with PostgresStreamSessionManager(url) as streams:
            with pytest.raises(ConfigurationError, match="row-level security"):
                await streams.check()
