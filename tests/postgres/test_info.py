"""Session metadata: what is set for a session that is not there, or is being deleted, is not kept."""

from __future__ import annotations

import asyncio
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

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord(
    protocol_version="2025-11-25",
    client_info={"name": "c", "version": "1"},
    client_capabilities={},
    log_level="info",
)

SETTERS: dict[str, tuple[Any, tuple[str, Any]]] = {
    "set_client_info": ({"name": "late"}, ("set_client_info", '{"name": "late"}')),
    "set_client_capabilities": ({"sampling": {}}, ("set_client_capabilities", '{"sampling": {}}')),
    "set_log_level": ("error", ("update", "error")),
    "add_subscription": ("a://1", ("add_subscription", "a://1")),
}
"""What a request can set: the method, its value, and the statement with its first parameter."""


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
