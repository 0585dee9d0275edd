"""The idle clock of a session: slid by the one statement that loads it, when that is due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tmcp_serverless import Database, PostgresInfoSessionManager, SessionRecord, TableNames

RECORD = SessionRecord(
    protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
)


async def fetchval(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def clock(dsn: str, table: str = "tmcp_session_context") -> datetime:
    return await fetchval(dsn, f'SELECT updated_at FROM "{table}"')


async def test_it_stands_still_until_a_thousandth_of_the_time_is_over(database_url: str) -> None:
    async with PostgresInfoSessionManager(database_url, idle_seconds=3_600) as info:
        await info.initialize("s", RECORD)
        made = await clock(database_url)
        assert await info.load("s") == RECORD
        assert await clock(database_url) == made
        await fetchval(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '4 s'")
        assert await info.load("s") == RECORD
        assert await clock(database_url) >= made


async def test_it_is_slid_once_by_many_requests_at_once(database_url: str) -> None:
    async with PostgresInfoSessionManager(database_url, idle_seconds=3_600) as info:
        await info.initialize("s", RECORD)
        await fetchval(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '4 s'")
        rows = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'tmcp_session_context'"
        assert await asyncio.gather(*(info.load("s") for _ in range(20))) == [RECORD] * 20
        await info.aclose()  # what a backend has counted is known when it ends, at the latest
        async with asyncio.timeout(30):
            while await fetchval(database_url, rows) < 2:
                await asyncio.sleep(0.05)
        assert await fetchval(database_url, rows) == 2


async def test_nobody_elses_clock_is_slid_and_no_expired_one(database_url: str) -> None:
    async with PostgresInfoSessionManager(database_url, idle_seconds=3_600) as info:
        await info.initialize("s", RECORD)
        await fetchval(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '30 min'")
        before = await clock(database_url)
        assert await info.load("s", principal="somebody else") is None
        assert await clock(database_url) == before
        await fetchval(database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '2 h'")
        before = await clock(database_url)
        assert await info.load("s") is None
        assert await clock(database_url) == before


@pytest.mark.parametrize("table", ["Con-text", "it's", "a$$b", "x" * 60])
async def test_it_is_slid_in_a_table_of_any_name(empty_database_url: str, table: str) -> None:
    async with PostgresInfoSessionManager(empty_database_url, table_names=TableNames(context=table)) as info:
        await info.initialize("s", RECORD)
        await fetchval(empty_database_url, f"UPDATE \"{table}\" SET updated_at = now() - interval '1 h'")
        before = await clock(empty_database_url, table)
        assert await info.load("s") == RECORD
        assert await clock(empty_database_url, table) > before


async def test_a_day_has_24_hours_though_the_clocks_have_changed(database_url: str) -> None:
    day = datetime.now(UTC).timetuple().tm_yday - 1
    # A POSIX rule: at midnight they went forward, as they do in many places in spring.
    zone = f"CET0CEST-1,{day}/0,{(day + 180) % 365}"
    name = await fetchval(database_url, "SELECT current_database()")
    await fetchval(database_url, f"ALTER DATABASE \"{name}\" SET TimeZone = '{zone}'")
    async with PostgresInfoSessionManager(database_url) as info:
        await info.initialize("s", RECORD)
        await fetchval(
            database_url, "UPDATE tmcp_session_context SET updated_at = now() - interval '1410 min'"
        )
        assert await info.sweep() == 0
        assert await info.load("s") == RECORD


async def test_loading_is_never_planned_anew(database_url: str) -> None:
    async with Database(database_url, size=1) as database, PostgresInfoSessionManager(database) as info:
        for number in range(300):
            await info.initialize(f"session {number}", RECORD)
        await fetchval(database_url, "ANALYZE")
        for _ in range(12):
            await info.load("session 1")
        rows = await database.fetch(
            "SELECT custom_plans FROM pg_prepared_statements WHERE statement LIKE 'SELECT protocol_version%'",
            idempotent=True,
        )
    assert [row[0] <= 5 for row in rows] == [True]
