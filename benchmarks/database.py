"""The Postgres that the benchmarks run on: durable, and a database of its own for each benchmark."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["fresh_database", "postgres_server"]


@asynccontextmanager
async def postgres_server() -> AsyncGenerator[str]:
    """Yield the URL of `TMCP_TEST_DATABASE_URL`, or of a Postgres that lives as long as this context."""
    url = os.environ.get("TMCP_TEST_DATABASE_URL")
    if url:
        yield url
        return
    from tmcp_serverless.testing.postgres import EmbeddedPostgres

    with EmbeddedPostgres() as postgres:
        yield postgres.dsn


@asynccontextmanager
async def fresh_database(server_url: str, *, durable: bool = True) -> AsyncGenerator[str]:
    """Yield the URL of an empty database, which is dropped afterwards."""
    name = f"bench_{secrets.token_hex(6)}"
    await _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        if not durable:
            await _execute(server_url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        await _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
