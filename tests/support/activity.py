"""Which connections a test's database has, as the server sees it."""

from __future__ import annotations

import asyncpg

__all__ = ["connections"]


async def connections(dsn: str) -> list[str]:
    """Return the last statement of every connection of ours to this database."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT query FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'tmcp_serverless%'"
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]
