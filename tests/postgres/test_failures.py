"""What the database refuses, and what that means to the caller."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.support.roles import execute
from tmcp_serverless import (
    ConfigurationError,
    Database,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SchemaError,
    SessionRecord,
    StoreUnavailableError,
    TableNames,
)
from tmcp_serverless.postgres import schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord(
    protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
)


async def set_for_all(dsn: str, setting: str) -> None:
    """Set something for all connections to come."""
    name = dsn.rpartition("/")[2]
    await execute(dsn, f'SET transaction_read_only = off; ALTER DATABASE "{name}" {setting}')


async def test_a_database_that_takes_no_writes_is_left_as_soon_as_it_has_said_so(database_url: str) -> None:
    """As after a failover: the connection works, and leads to what is a standby now."""
    await schema.migrate(database_url)
    await set_for_all(database_url, "SET default_transaction_read_only = on")
    async with PostgresStreamSessionManager(database_url) as streams:
        assert await streams.has("s") is False
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            await streams.send(["s"], "1")
        assert await streams.has("s") is False
        await set_for_all(database_url, "RESET default_transaction_read_only")
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            await streams.send(["s"], "1")
        await streams.send(["s"], "1")
    await set_for_all(database_url, "SET default_transaction_read_only = on")
    async with PostgresInfoSessionManager(database_url) as info:
        assert await info.load("s") is None
        await set_for_all(database_url, "RESET default_transaction_read_only")
        await info.initialize("s", RECORD)
        assert await info.load("s") == RECORD, "what may be run twice is run on a new connection"


async def test_a_check_finds_out_that_the_database_takes_no_writes_and_that_it_does_again(
    database_url: str,
) -> None:
    async with PostgresInfoSessionManager(database_url) as info:
        await info.check()
        await info.disconnect()
        await set_for_all(database_url, "SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            await info.check()
        await set_for_all(database_url, "RESET default_transaction_read_only")
        await info.check()


async def test_a_lock_that_was_not_had_in_time_is_worth_another_try(database_url: str) -> None:
    async with PostgresStreamSessionManager(database_url) as streams:
        await streams.send(["s"], "1")
        await streams.disconnect()
        await set_for_all(database_url, "SET lock_timeout = '100ms'")
        other = await asyncpg.connect(database_url)
        await other.execute("BEGIN; LOCK TABLE tmcp_mailboxes")
        with pytest.raises(StoreUnavailableError, match="LockNotAvailableError"):
            await streams.send(["s"], "2")
        await other.close()
        await streams.send(["s"], "3")


async def test_what_is_wrong_with_a_statement_is_not_taken_for_an_outage(database_url: str) -> None:
    database = Database(database_url)
    for idempotent in (True, False):
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await database.fetchrow("SELEKT 1", idempotent=idempotent)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await database.fetch("SELECT 1 / 0", idempotent=idempotent)
    await database.aclose()


async def test_missing_tables_are_an_error_that_says_how_they_are_made(empty_database_url: str) -> None:
    async with PostgresInfoSessionManager(empty_database_url, create=False) as info:
        with pytest.raises(SchemaError, match=r"run `tmcp-serverless migrate`, .* TMCP_CREATE_TABLES=true$"):
            await info.load("s")


async def test_a_table_of_somebody_else_is_in_the_way(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE TABLE tmcp_sessions (id text PRIMARY KEY)")
    async with PostgresStreamSessionManager(empty_database_url) as streams:
        with pytest.raises(ConfigurationError, match=r"tmcp_sessions.*table_name"):
            await streams.send(["s"], "1")


async def test_tables_under_two_sets_of_names_are_in_each_others_way(empty_database_url: str) -> None:
    async with PostgresInfoSessionManager(empty_database_url) as info:
        await info.load("s")
    names = TableNames(client_info="another")
    async with PostgresInfoSessionManager(empty_database_url, table_names=names) as info:
        with pytest.raises(ConfigurationError, match="already exists"):
            await info.load("s")


async def test_a_value_that_the_server_does_not_take_names_the_variable(database_url: str) -> None:
    wrong = Database(database_url, server_settings={"synchronous_commit": "banana"})
    with pytest.raises(ConfigurationError, match="TMCP_SYNCHRONOUS_COMMIT"):
        await wrong.fetchrow("SELECT 1", idempotent=True)
    for_long = Database(database_url, idle_seconds=3e6)
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_IDLE_SECONDS"):
        await for_long.fetchrow("SELECT 1", idempotent=True)
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_URL"):
        await Database(f"{database_url}?work_mem=much").fetchrow("SELECT 1", idempotent=True)


@asynccontextmanager
async def refusing(code: str, message: str) -> AsyncGenerator[str]:
    """Listen as a server or pooler that lets nobody in, and says why."""
    fields = "".join(f"{key}{value}\0" for key, value in (("S", "FATAL"), ("C", code), ("M", message)))
    body = fields.encode() + b"\0"
    answer = b"E" + (len(body) + 4).to_bytes(4, "big") + body

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("XX000", "MaxClientsInSessionMode: max clients reached"),
        ("53300", "sorry, too many clients already"),
        ("55000", 'database "d" is not currently accepting connections'),
        ("57P03", "the database system is starting up"),
    ],
)
async def test_who_is_let_in_by_nobody_now_may_try_again(code: str, message: str) -> None:
    async with refusing(code, message) as dsn:
        with pytest.raises(StoreUnavailableError, match=message.partition(" ")[0]):
            await Database(dsn).fetchrow("SELECT 1", idempotent=True)
