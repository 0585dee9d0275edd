"""A server that grants fewer connections than the pool may open: requests wait for those that there are."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.activity import connections
from tests.support.relay import relay
from tests.support.roles import execute, poor_role
from tests.support.waiting import eventually
from tmcp_serverless import Database, PostgresStreamSessionManager, StoreUnavailableError
from tmcp_serverless.postgres import pool
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

BRIEFLY = "SELECT pg_backend_pid() FROM pg_sleep(0.01)"


@asynccontextmanager
async def granted(database_url: str, count: int) -> AsyncGenerator[str]:
    """Return the URL of a role that may have so many connections."""
    async with poor_role(database_url) as (role, url):
        await execute(
            database_url,
            f"ALTER ROLE {role} CONNECTION LIMIT {count}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        )
        yield url


async def crowd(database: Database, count: int = 30) -> set[int]:
    rows: Any = await asyncio.gather(*(database.fetchrow(BRIEFLY, idempotent=True) for _ in range(count)))
    return {row[0] for row in rows}


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_requests_wait_for_the_connections_that_are_granted(
    database_url: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with granted(database_url, count) as url:
        database = Database(url)
        with caplog.at_level(logging.WARNING, logger="tmcp_serverless"):
            for _ in range(3):
                assert len(await crowd(database)) == count
        assert len([line for line in caplog.messages if "fewer database connections now" in line]) == 1
        await database.aclose()


@pytest.mark.parametrize(
    "pooler", [("08P01", "no more connections allowed (max_client_conn)"), ("XX000", "MaxClients")]
)
async def test_poolers_have_other_codes_for_it(database_url: str, pooler: tuple[str, str]) -> None:
    admitted = 0

    def judge(_: Mapping[str, str]) -> tuple[str, str] | None:
        nonlocal admitted
        admitted += 1
        return None if admitted <= 2 else pooler

    async with relay(database_url, judge=judge) as url:
        database = Database(url)
        assert len(await crowd(database)) == 2
        assert admitted <= 10 + 2, "the pool does not go on asking"
        await database.aclose()


async def test_where_there_is_none_everybody_is_told_at_once(database_url: str) -> None:
    async with granted(database_url, 2) as url:
        others = [await asyncpg.connect(url) for _ in range(2)]
        database = Database(url)
        async with asyncio.timeout(5):
            work = [database.fetchrow(BRIEFLY, idempotent=True) for _ in range(30)]
            results = await asyncio.gather(*work, return_exceptions=True)
        assert all(isinstance(result, StoreUnavailableError) for result in results)
        assert all("grants no further connection" in str(result) for result in results)
        for other in others:
            await other.close()
        assert await crowd(database)
        await database.aclose()


async def test_the_pool_grows_again_when_the_server_grants_more(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_CROWDED_SECONDS", 0.2)
    async with granted(database_url, 4) as url:
        others = [await asyncpg.connect(url) for _ in range(3)]
        database = Database(url)
        assert len(await crowd(database)) == 1
        for other in others:
            await other.close()

        async def has_grown() -> bool:
            return len(await crowd(database)) == 4

        await eventually(has_grown)
        await database.aclose()


async def test_one_who_is_cancelled_while_refused_takes_nothing_along(database_url: str) -> None:
    async with granted(database_url, 2) as url:
        database = Database(url)
        for wait in (0.0, 0.001, 0.004, 0.016):
            tasks = [asyncio.ensure_future(crowd(database, 1)) for _ in range(20)]
            await asyncio.sleep(wait)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            failed = [each for each in results if isinstance(each, Exception)]
            assert failed == []
        await database.aclose()
        assert await connections(database_url) == []


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_there_is_room_for_the_one_that_listens(database_url: str, count: int) -> None:
    """With one connection alone, streams poll: what is granted is needed for everything else."""
    async with granted(database_url, count) as url:
        database = Database(url)
        await crowd(database)
        streams = PostgresStreamSessionManager(database)
        controllers = [RecordingController() for _ in range(5)]
        for number, controller in enumerate(controllers):
            await streams.create(f"s{number}", controller)
        await asyncio.gather(*(streams.send([f"s{number}"], f'"{number}"') for number in range(5)))

        async def all_have_it() -> bool:
            return all(len(controller.events) == 1 for controller in controllers)

        await eventually(all_have_it)
        await streams.aclose()
        await database.aclose()
