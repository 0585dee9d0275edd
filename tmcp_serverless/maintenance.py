"""Maintenance apart from requests: sweeping, and bringing the tables up to date."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from tmcp_serverless.errors import ConfigurationError, StoreUnavailableError
from tmcp_serverless.managers import managers_for

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings
    from tmcp_serverless.sessions import SessionManagers

__all__ = ["Swept", "migrate", "sweep", "sweep_database"]

logger = logging.getLogger(__name__)

_BATCH_ROWS = 1_000
"""The rows of each kind that one statement removes: locks are short, and a statement ends in its time."""


class Swept(NamedTuple):
    """The result of a sweep."""

    removed: int
    more: bool
    """True if the sweep stopped at its limit or its time, so that there may be more."""


async def sweep(
    managers: SessionManagers, *, limit: int | None = None, seconds: float | None = None
) -> Swept:
    """Remove expired rows, batch after batch, until there are none.

    Args:
        managers: The managers of the rows.
        limit: The most rows of each kind to remove: sessions, leases, messages, mailboxes.
        seconds: The time after which no further batch is begun.

    """
    ends_at = float("inf") if seconds is None else time.monotonic() + seconds
    left = float("inf") if limit is None else limit
    removed = 0
    failure: StoreUnavailableError | None = None
    sweeps = [managers.info.sweep, managers.streams.sweep]
    more = True
    while sweeps and left > 0 and time.monotonic() < ends_at:
        batch = int(min(left, _BATCH_ROWS))
        gone = 0
        for each in [*sweeps]:
            try:
                gone += await each(limit=batch)
            except StoreUnavailableError as error:
                # The others get on: a statement that takes too long keeps nothing else from being removed.
                failure = error
                sweeps.remove(each)
        removed += gone
        left -= batch
        if gone < batch:
            more = False
            break
    if failure is not None:
        if not removed:
            raise failure
        logger.warning("%d rows were removed, and others could not be: %s", removed, failure)
    return Swept(removed, more=more or failure is not None)


async def sweep_database(
    settings: Settings, *, limit: int | None = None, seconds: float | None = None
) -> Swept:
    """Run `sweep` in the configured database, over connections of its own.

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
    """Create or update the tables of the configured database, and return the names of the applied migrations.

    Raises:
        ConfigurationError: There is no database, or a setting is wrong.
        StoreUnavailableError: The database cannot be reached now.

    """
    from tmcp_serverless.postgres import schema  # imports the driver
    from tmcp_serverless.postgres.connect.configured import database_for  # the same

    return await schema.migrate(database_for(settings))
