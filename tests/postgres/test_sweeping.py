"""Sweeping leases, messages and mailboxes: bounded with every new session, thorough when it is asked for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tmcp_serverless import PostgresStreamSessionManager
from tmcp_serverless.postgres import sweeping
from tmcp_serverless.postgres.statements import Statements
from tmcp_serverless.sessions.addresses import mint_stream_session_id
from tmcp_serverless.testing.contracts import RecordingController


async def execute(dsn: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


async def fill(dsn: str, count: int, *, age: float) -> None:
    """Make mailboxes that hold nothing, last used so many days ago."""
    await execute(
        dsn,
        "INSERT INTO tmcp_mailboxes (id, last, updated_at) "
        "SELECT 'default:' || substr(md5($2::interval::text || n), 1, 20), 0, now() - $2::interval "
        "FROM generate_series(1, $1::int) AS n",
        count,
        timedelta(days=age),
    )


async def count(dsn: str) -> int:
    return (await execute(dsn, "SELECT count(*) FROM tmcp_mailboxes"))[0][0]


async def visited(dsn: str) -> int:
    rows = await execute(
        dsn,
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'tmcp_mailboxes'",
    )
    return rows[0][0]


async def test_what_comes_with_a_new_session_visits_a_few_mailboxes_of_many(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        await fill(database_url, 20_000, age=1)
        await execute(database_url, "ANALYZE")
        await streams.aclose()  # a backend tells what it has counted when it ends, at the latest
        before = await visited(database_url)
        for _ in range(5):
            assert await streams.sweep(limit=10) == 0
        await streams.aclose()
        async with asyncio.timeout(30):
            while (after := await visited(database_url)) == before:
                await asyncio.sleep(0.05)
    assert 0 < after - before < 5_000


async def test_with_time_it_comes_to_all(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        await fill(database_url, 2_000, age=1)
        await fill(database_url, 20, age=8)
        async with asyncio.timeout(30):
            while await count(database_url) > 2_001:
                await streams.sweep(limit=10)


async def test_with_time_it_comes_to_sessions_that_are_one_stream_too(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        ids = sorted(mint_stream_session_id() for _ in range(1_000))
        # Those at the edges are in use: whoever comes from outside gets no further.
        await execute(
            database_url,
            "INSERT INTO tmcp_mailboxes (id, last, updated_at) "
            "SELECT 'default:' || id, 0, "
            "now() - CASE WHEN n > 300 AND n <= 700 THEN interval '8 days' ELSE '0' END "
            "FROM unnest($1::text[]) WITH ORDINALITY AS given (id, n)",
            ids,
        )
        async with asyncio.timeout(30):
            while await count(database_url) > 601:
                await streams.sweep(limit=10)


async def test_of_a_few_mailboxes_none_is_left_out(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        for _ in range(5):
            await fill(database_url, 10, age=8)
            assert await streams.sweep(limit=10) == 10


async def test_a_large_sweep_visits_all(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_WINDOW_ROWS", 300)
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        await fill(database_url, 2_000, age=1)
        await fill(database_url, 1_500, age=8)
        assert await streams.sweep(limit=1_000) == 1_000
        assert await streams.sweep(limit=1_000) == 500
        assert await streams.sweep(limit=1_000) == 0
        assert await count(database_url) == 2_001


async def statements_of_a_sweep(
    streams: PostgresStreamSessionManager, monkeypatch: pytest.MonkeyPatch, *, limit: int
) -> tuple[int, int]:
    """Sweep until nothing is left; return how many went, and in how many statements."""
    statements = 0
    run = Statements.fetchrow

    async def counted(self: Statements, *args: Any, **options: Any) -> Any:
        nonlocal statements
        statements += 1
        return await run(self, *args, **options)

    monkeypatch.setattr(Statements, "fetchrow", counted)
    removed = 0
    async with asyncio.timeout(60):
        while (gone := await streams.sweep(limit=limit)) >= limit:
            removed += gone
    return removed + gone, statements


async def test_a_large_sweep_in_batches_visits_each_mailbox_a_few_times(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_ALL", 100)
    monkeypatch.setattr(sweeping, "_WINDOW_ROWS", 100)
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        await fill(database_url, 2_000, age=1)
        await fill(database_url, 2_000, age=8)
        await execute(
            database_url,
            "INSERT INTO tmcp_messages SELECT id, 1, 'x', now() - interval '1 h' "
            "FROM tmcp_mailboxes WHERE updated_at < now() - interval '7 days'",
        )
        removed, statements = await statements_of_a_sweep(streams, monkeypatch, limit=100)
        assert removed == 4_000
        assert await count(database_url) == 2_001
    # 20 batches of messages, 20 of mailboxes, 40 windows, a last round; each batch from the start: hundreds.
    assert statements < 150


async def test_a_large_sweep_begins_anew_where_what_it_would_go_on_from_has_gone(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_ALL", 10)
    monkeypatch.setattr(sweeping, "_WINDOW_ROWS", 20)
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.prepare("first")
        await fill(database_url, 200, age=8)
        for _ in range(10):
            assert await streams.sweep(limit=10) == 10
        await execute(database_url, "DELETE FROM tmcp_mailboxes")
        await fill(database_url, 5, age=8)
        assert await streams.sweep(limit=10) == 5
        assert await count(database_url) == 0


async def test_a_limit_is_one_for_each_kind(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.create("first", RecordingController())
        await fill(database_url, 30, age=8)
        await execute(
            database_url,
            "INSERT INTO tmcp_messages SELECT 'default:first', n, 'x', now() - interval '1 h' "
            "FROM generate_series(1, 30) AS n",
        )
        await execute(
            database_url,
            "INSERT INTO tmcp_sessions (id, updated_at) SELECT id, now() - interval '1 h' "
            "FROM tmcp_mailboxes WHERE updated_at < now() - interval '1 day' LIMIT 15",
        )
        assert await streams.sweep(limit=10) == 30
        assert await streams.sweep(limit=10) == 5 + 10 + 10
