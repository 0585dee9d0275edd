"""Spent tokens: each is kept until it expires, and goes with the use of another one."""

from __future__ import annotations

import asyncpg

from tests.support.waiting import eventually
from tmcp_serverless import PostgresKeyStore


async def test_expired_tokens_go_with_the_use_of_others_of_any_namespace(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    async def kept() -> set[str]:
        return {row[0] for row in await connection.fetch("SELECT id FROM tmcp_spent")}

    async def expired() -> bool:
        return bool(await connection.fetchval("SELECT min(expires_at) < now() FROM tmcp_spent"))

    async with (
        PostgresKeyStore(database_url, namespace="red") as red,
        PostgresKeyStore(database_url, namespace="blue", create=False) as blue,
    ):
        assert await red.spend("long", seconds=600)
        # The last to be spent: any use after it may be the one that removes it.
        assert await red.spend("short", seconds=0.01)
        await eventually(expired)
        assert await kept() == {"red:long", "red:short"}
        assert await blue.spend("another", seconds=600)
        assert await kept() == {"red:long", "blue:another"}
        assert not await red.spend("long", seconds=600)
    await connection.close()


async def test_the_tables_have_names_of_their_own_where_they_are_given(empty_database_url: str) -> None:
    async with PostgresKeyStore(empty_database_url, table_name="my-keys", schema="My Schema") as keys:
        await keys.check()
        assert await keys.secret("name", "first") == "first"
        assert await keys.spend("token", seconds=60)
    connection = await asyncpg.connect(empty_database_url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'My Schema'")
    await connection.close()
    assert {row[0] for row in rows} == {"my-keys", "my-keys_spent", "tmcp_schema"}
