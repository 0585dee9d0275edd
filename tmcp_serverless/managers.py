"""The session managers that the settings ask for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.contracts import SessionManagers

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings

__all__ = ["managers_for"]

logger = logging.getLogger(__name__)


def managers_for(settings: Settings) -> SessionManagers:
    """Return the managers over the configured database; without one, over this process's memory."""
    if not settings.has_database:
        logger.warning("TMCP_DATABASE_URL is not set: sessions stay in the memory of this process")
        from tmcp_serverless.sessions import (  # noqa: PLC0415 - only without a database
            InMemoryInfoSessionManager,
            InMemoryStreamSessionManager,
        )

        streams = InMemoryStreamSessionManager(unused_seconds=7 * settings.session_idle_seconds)
        return SessionManagers(
            streams=streams,
            info=InMemoryInfoSessionManager(idle_seconds=settings.session_idle_seconds, streams=streams),
        )
    from tmcp_serverless.postgres import (  # noqa: PLC0415 - only with a database
        PostgresInfoSessionManager,
        PostgresStreamSessionManager,
    )
    from tmcp_serverless.postgres.configured import database_for  # noqa: PLC0415 - the same

    database = database_for(settings)
    return SessionManagers(
        streams=PostgresStreamSessionManager(
            database,
            create=settings.create_tables,
            doorbell=settings.doorbell,
            unused_seconds=7 * settings.session_idle_seconds,
        ),
        info=PostgresInfoSessionManager(
            database, create=settings.create_tables, idle_seconds=settings.session_idle_seconds
        ),
    )
