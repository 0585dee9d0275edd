"""What runs now and then, apart from requests: sweeping, and bringing the tables up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.managers import managers_for

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings
    from tmcp_serverless.sessions.contracts import SessionManagers

__all__ = ["migrate", "sweep", "sweep_database"]

_BATCH_ROWS = 1_000
"""So many rows of each kind go in one statement: locks are short, and a statement ends in its time."""


async def sweep(managers: SessionManagers, *, limit: int = 10_000, seconds: float | None = None) -> int:
    """Remove expired rows, at most `limit` of each kind, and return how many went.

    Args:
        managers: Whose rows.
        limit: How many of each kind: sessions, leases, messages, mailboxes.
        seconds: After this time no further batch is begun.

    """
    ends_at = float("inf") if seconds is None else time.monotonic() + seconds
    removed, left = 0, limit
    while left > 0 and time.monotonic() < ends_at:
        batch = min(left, _BATCH_ROWS)
        gone = await managers.info.sweep(limit=batch) + await managers.streams.sweep(limit=batch)
        removed += gone
        left -= batch
        if gone < batch:
            break
    return removed


async def sweep_database(settings: Settings, *, limit: int = 10_000, seconds: float | None = None) -> int:
    """Do what `sweep` does, in the configured database, over connections of its own.

    Raises:
        ConfigurationError: There is no database, or a setting is wrong.
        StoreUnavailableError: The database cannot be reached now.

    """
    if not settings.has_database:
        raise ConfigurationError("there is no database: set TMCP_DATABASE_URL")
    managers = managers_for(settings)
    try:
        return await sweep(managers, limit=limit, seconds=seconds)
    finally:
        await managers.aclose()


async def migrate(settings: Settings) -> list[str]:
    """Create or update the tables of the configured database, and return the names of what was applied.

    Raises:
        ConfigurationError: There is no database, or a setting is wrong.
        StoreUnavailableError: The database cannot be reached now.

    """
    from tmcp_serverless.postgres import schema  # noqa: PLC0415 - imports the driver
    from tmcp_serverless.postgres.configured import database_for  # noqa: PLC0415 - the same

    return await schema.migrate(database_for(settings))
