"""Session metadata: what is set for a session that is not there, or is being deleted, is not kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.rows import key, statements_of
from tests.support.waiting import eventually
from tmcp_serverless import (
    Notifier,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SessionRecord,
    TableNames,
)
from tmcp_serverless.postgres.components import info_component
from tmcp_serverless.postgres.identifiers import quote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord(
    protocol_version="2025-11-25",
    client_info={"name": "c", "version": "1"},
    client_capabilities={},
    log_level="info",
)

SETTERS: dict[str, tuple[Any, tuple[str, *tuple[Any, ...]]]] = {
    "set_client_info": ({"name": "late"}, ("set_client_info", '{"name": "late"}')),
    "set_client_capabilities": ({"sampling": {}}, ("set_client_capabilities", '{"sampling": {}}')),
    "set_log_level": ("error", ("update", "error")),
    "add_subscription": ("a://1", ("add_subscription", "a://1", 1_000)),
}
"""What a request can set: the method, its value, and the statement with its parameters."""


@pytest.fixture
async def info(database_url: str) -> AsyncGenerator[PostgresInfoSessionManager]:
    async with PostgresInfoSessionManager(database_url) as manager:
        yield manager


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def statement(name: str) -> str:
    return statements_of(info_component(schema="public"))[name]


async def set_all(info: PostgresInfoSessionManager, id: str) -> None:
    await info.set_client_info(id, {"name": "late"})
    await info.set_client_capabilities(id, {"sampling": {}})
    await info.set_log_level(id, "error")
    await info.add_subscription(id, "a://1")


async def left(connection: asyncpg.Connection) -> list[str]:
    """Return the tables that hold anything."""
    names = TableNames()
    tables = (
        names.client_info,
        names.client_capabilities,
        names.log_level,
        names.subscriptions,
        names.context,
    )
    return [table for table in tables if await connection.fetchval(f'SELECT count(*) FROM "{table}"')]


async def waiting_for_a_lock(dsn: str) -> None:
    """Return when a statement of the database waits for a row that somebody else has locked."""
    connection = await asyncpg.connect(dsn)

    async def waits() -> bool:
        return await connection.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )

    try:
        await eventually(waits)
    finally:
        await connection.close()


async def test_what_is_set_for_a_deleted_session_is_not_kept(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    await info.initialize("s", RECORD)
    await info.delete("s")
    await set_all(info, "s")
    assert await left(connection) == []
    assert await info.get_subscriptions("a://1") == set()
    assert await info.get_log_level("s") is None


async def test_what_is_set_for_a_session_that_never_was_is_not_kept(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    await set_all(info, "s")
    assert await left(connection) == []


async def test_an_update_does_not_bring_a_deleted_session_back(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection, database_url: str
) -> None:
    async with (
        PostgresStreamSessionManager(database_url) as streams,
        Notifier(database_url, namespace="default") as notifier,
    ):
        await info.initialize("s", RECORD)
        await streams.prepare("s")
        await info.delete("s")
        await streams.delete("s")
        await info.add_subscription("s", "a://1")
        await notifier.resource_updated("a://1")
    assert await connection.fetch("SELECT id FROM tmcp_mailboxes WHERE id = 'default:s'") == []


@pytest.mark.parametrize("name", SETTERS)
async def test_what_is_set_while_the_session_is_being_deleted_is_not_kept(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection, database_url: str, name: str
) -> None:
    await info.initialize("s", RECORD)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement("delete"), key("s"))
    setting = asyncio.create_task(getattr(info, name)("s", SETTERS[name][0]))
    await waiting_for_a_lock(database_url)
    await transaction.commit()
    await setting
    assert await left(connection) == []


@pytest.mark.parametrize("name", SETTERS)
async def test_a_session_is_deleted_with_what_is_being_set_meanwhile(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection, database_url: str, name: str
) -> None:
    await info.initialize(
        "s", SessionRecord(protocol_version="2025-11-25", client_info={}, client_capabilities={})
    )
    transaction = connection.transaction()
    await transaction.start()
    heading, *values = SETTERS[name][1]
    await connection.execute(statement(heading), key("s"), *values, *([None] if heading == "update" else []))
    deleting = asyncio.create_task(info.delete("s"))
    await waiting_for_a_lock(database_url)
    await transaction.commit()
    await deleting
    assert await left(connection) == []


async def test_a_session_that_is_being_deleted_is_not_renewed(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection, database_url: str
) -> None:
    await info.initialize("s", RECORD)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement("delete"), key("s"))
    renewing = asyncio.create_task(info.initialize("s", RECORD, only_if_exists=True))
    await waiting_for_a_lock(database_url)
    await transaction.commit()
    assert not await renewing
    assert await left(connection) == []


async def test_a_session_is_deleted_with_what_it_is_being_renewed_with(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection, database_url: str
) -> None:
    early = SessionRecord(protocol_version="2025-11-25", client_info={}, client_capabilities={})
    await info.initialize("s", early)
    transaction = connection.transaction()
    await transaction.start()
    values = ("{}", "{}", "error", "", "2025-11-25", False)
    assert await connection.fetchval(statement("initialize_existing"), key("s"), *values, 60.0) == key("s")
    deleting = asyncio.create_task(info.delete("s"))
    await waiting_for_a_lock(database_url)
    await transaction.commit()
    await deleting
    assert await left(connection) == []


async def test_a_session_that_has_expired_is_not_renewed(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    await info.initialize("s", RECORD)
    await connection.execute("UPDATE tmcp_session_context SET updated_at = now() - interval '25 h'")
    assert not await info.initialize("s", RECORD, only_if_exists=True)


async def test_a_subscription_does_not_wait_for_the_idle_clock(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    await info.initialize("s", RECORD)
    async with connection.transaction(), asyncio.timeout(5):
        await connection.execute("UPDATE tmcp_session_context SET updated_at = now()")
        await info.add_subscription("s", "a://1")
    assert await info.get_subscriptions("a://1") == {"s"}


async def test_who_is_subscribed_without_a_session_is_not_told(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    await info.initialize("s", RECORD)
    await info.add_subscription("s", "a://1")
    await connection.execute(
        "INSERT INTO tmcp_session_subscriptions (id, value) VALUES ('default:gone', 'a://1')"
    )
    assert await info.get_subscriptions("a://1") == {"s"}


@pytest.mark.parametrize("names", [TableNames(), TableNames(client_info="Other.Info", log_level="my-level")])
async def test_tmcps_tables_of_single_values_are_views_of_the_session(
    database_url: str, connection: asyncpg.Connection, names: TableNames
) -> None:
    await connection.execute('CREATE SCHEMA "Other"')
    if names != TableNames():
        names = replace(names, context="my-context", client_capabilities="my-capabilities", subscriptions="s")
    views = {
        name: quote(getattr(names, name)) for name in ("client_info", "client_capabilities", "log_level")
    }

    async def seen() -> dict[str, list[tuple[str, str]]]:
        return {
            name: [tuple(row) for row in await connection.fetch(f"SELECT id, value FROM {view} ORDER BY id")]
            for name, view in views.items()
        }

    async with PostgresInfoSessionManager(database_url, table_names=names, namespace="a b") as info:
        await info.initialize("s", replace(RECORD, log_level=None))
        expected = {
            "client_info": [("a b:s", '{"name": "c", "version": "1"}')],
            "client_capabilities": [("a b:s", "{}")],
        }
        assert await seen() == {**expected, "log_level": []}
        await info.set_log_level("s", "error")
        await info.set_client_capabilities("s", {"sampling": {}})
        expected["client_capabilities"] = [("a b:s", '{"sampling": {}}')]
        assert await seen() == {**expected, "log_level": [("a b:s", "error")]}
        await info.delete("s")
        assert await seen() == {name: [] for name in views}


async def test_each_change_of_a_session_writes_one_row(
    info: PostgresInfoSessionManager, connection: asyncpg.Connection
) -> None:
    """The numbers of rows that statements have written, as the server counts them."""
    await info.initialize("s", RECORD)

    async def written() -> Any:
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        return await connection.fetchval(
            "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::int FROM pg_stat_user_tables "
            "WHERE relname LIKE 'tmcp_session%'"
        )

    await info.update("s", log_level="error", initialized=True)
    await info.update("s", log_level="error", initialized=True)
    await info.set_client_info("s", {})
    await info.initialize("s", RECORD, only_if_exists=True)
    await info.delete("s")
    await info.aclose()  # a backend tells what it has counted when it ends, at the latest

    async def told() -> bool:
        return await written() >= 5

    await eventually(told)
    assert await written() == 5
