"""A role that may do little, as roles may that were made for an application."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["execute", "poor_role"]


async def execute(dsn: str, sql: str) -> None:
    """Run statements."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@asynccontextmanager
async def poor_role(dsn: str) -> AsyncGenerator[tuple[str, str]]:
    """Make a role that may not create anything in this database; its name and the DSN it logs in with."""
    role = f"poor_{uuid.uuid4().hex}"
    await execute(
        dsn,
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}'; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    parts = urlsplit(dsn)
    place = f"{role}:{quote(role)}@{parts.netloc.rpartition('@')[2]}"
    try:
        yield role, urlunsplit(parts._replace(netloc=place))
    finally:
        await execute(dsn, f"DROP OWNED BY {role}; DROP ROLE {role}")
