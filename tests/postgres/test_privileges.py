"""A role that may not do what the kit needs: which one, and what to grant it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.roles import execute, poor_role
from tmcp_serverless import (
    ConfigurationError,
    PostgresInfoSessionManager,
    PostgresStreamSessionManager,
    SessionRecord,
)
from tmcp_serverless.postgres import schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RECORD = SessionRecord("2025-11-25", {"name": "c", "version": "1"}, {})


@pytest.fixture
async def poor(database_url: str) -> AsyncGenerator[tuple[str, str]]:
    async with poor_role(database_url) as made:
        yield made


async def test_a_role_that_may_not_create_tables(poor: tuple[str, str], database_url: str) -> None:
    """Since PostgreSQL 15 that is any role that was not given more."""
    role, dsn = poor
    async with PostgresInfoSessionManager(dsn) as info:
        for work in (info.load("s"), info.check(), info.initialize("s", RECORD)):
            with pytest.raises(ConfigurationError, match=rf"{role} may not .*tmcp-serverless migrate.*GRANT"):
                await work
        await execute(database_url, f"GRANT CREATE ON SCHEMA public TO {role}")
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
