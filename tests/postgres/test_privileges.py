"""A role that may not do what the kit needs: which one, and what to grant it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.roles import execute, poor_role
from tests.support.servers import small_server
from tmcp_serverless import (
    ConfigurationError,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SessionRecord,
    Settings,
    create_handler,
)
from tmcp_serverless.postgres import schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord(
    protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
)


@pytest.fixture
async def poor(database_url: str) -> AsyncGenerator[tuple[str, str]]:
    async with poor_role(database_url) as made:
        yield made


async def test_a_role_that_may_not_create_tables(empty_database_url: str) -> None:
    """Since PostgreSQL 15 that is any role that was not given more."""
    async with poor_role(empty_database_url) as (role, dsn), PostgresInfoSessionManager(dsn) as info:
        for work in (info.load("s"), info.check(), info.initialize("s", RECORD)):
            with pytest.raises(ConfigurationError, match=rf"{role} may not .*tmcp-serverless migrate.*GRANT"):
                await work
        await execute(empty_database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
        await info.initialize("s", RECORD)


async def test_a_role_that_may_not_use_the_tables(poor: tuple[str, str], database_url: str) -> None:
    role, dsn = poor
    await schema.migrate(database_url)
    async with PostgresStreamSessionManager(dsn) as streams:
        with pytest.raises(ConfigurationError, match=r"TMCP_DATABASE_URL .* tmcp_schema.*GRANT it SELECT"):
            await streams.send(["s"], "1")
        await execute(database_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        with pytest.raises(ConfigurationError, match="permission denied"):
            await streams.send(["s"], "1")
        await execute(database_url, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        await streams.send(["s"], "1")


def grants_in_the_docs(role: str) -> str:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    [sql] = re.findall(r"```sql\n(GRANT .*?)```", text, re.DOTALL)
    return sql.replace("orders_app", role)


async def test_what_the_docs_say_to_grant_is_all_that_serving_takes_and_nothing_too_much(
    poor: tuple[str, str], database_url: str
) -> None:
    role, dsn = poor
    await schema.migrate(database_url)
    await execute(database_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await execute(database_url, "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    grants = grants_in_the_docs(role)
    await execute(database_url, grants)
    settings = Settings(database_url=dsn, create_tables=False, single_use=True)
    async with create_handler(small_server(), settings=settings) as handler:
        await handler.managers.check()
        client = await Client(handler.app).initialize()
        async with client.listen() as stream:
            await stream.begun()
            assert await client.call("change") == "changed"
            await handler.notifier.tools_changed()
            await stream.count(2)
        assert await client.call("add", a=1, b=2) == "3"
        await client.delete()
        assert (await ModernClient(handler.app).ask("tools/list")).status == 200
        assert handler.managers.keys is not None
        assert await handler.managers.keys.secret("k", "v") == "v"
        assert await handler.managers.keys.spend("t", seconds=0.0)
        await handler.sweep()
    for statement in grants.strip().split(";\n"):
        taken = statement.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ").removesuffix(";")
        await execute(database_url, taken)
        async with create_handler(small_server(), settings=settings) as handler:
            with pytest.raises(ConfigurationError):
                await handler.managers.check()
        await execute(database_url, statement)


@pytest.mark.parametrize("function", ["tmcp_slide", "tmcp_forget"])
async def test_a_function_that_may_not_be_called_is_named_with_its_grant(
    function: str, poor: tuple[str, str], database_url: str
) -> None:
    role, dsn = poor
    await schema.migrate(database_url)
    await execute(database_url, grants_in_the_docs(role))
    for who in ("PUBLIC", role):
        await execute(database_url, f"REVOKE ALL ON FUNCTION {function} FROM {who}")
    async with create_handler(small_server(), database_url=dsn, create_tables=False) as handler:
        managers = handler.managers
        with pytest.raises(
            ConfigurationError, match=f"the role {role} may not EXECUTE: GRANT EXECUTE"
        ) as lacking:
            await managers.check()
        if function == "tmcp_forget":
            with pytest.raises(ConfigurationError, match="GRANT it EXECUTE on the functions"):
                await managers.streams.delete("s")
        await execute(database_url, str(lacking.value).partition(": ")[2])
        await managers.check()
        await managers.streams.delete("s")


async def test_tables_and_functions_that_may_not_be_used_are_granted_at_once(
    poor: tuple[str, str], database_url: str
) -> None:
    role, dsn = poor
    await schema.migrate(database_url)
    await execute(database_url, f"GRANT SELECT ON tmcp_schema TO {role}")
    await execute(database_url, "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    async with PostgresInfoSessionManager(dsn, create=False) as info:
        with pytest.raises(
            ConfigurationError, match="may not DELETE, INSERT, SELECT, UPDATE, EXECUTE"
        ) as lacking:
            await info.check()
        await execute(database_url, str(lacking.value).partition(": ")[2])
        await info.check()
