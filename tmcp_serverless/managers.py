"""The session managers that the settings configure."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from tmcp_serverless.forms import DEFAULT_NAMESPACE
from tmcp_serverless.sessions import SessionManagers

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings

__all__ = ["managers_for"]

logger = logging.getLogger(__name__)

_UNUSED_IDLE_TIMES = 7
"""The multiple of a session's idle time that its topic cursor is kept: longer than it can live."""

_UNUSED_SECONDS = 7 * 86_400.0
"""The least time for that in a database: other servers' sessions may be in it."""

_LINGER_SECONDS = 2.0
"""The time that the LISTEN connection outlasts the last stream of a process that goes on running."""


def managers_for(settings: Settings, *, namespace: str | None = None) -> SessionManagers:
    """Return the managers over the configured database; without one, over this process's memory.

    `namespace` is used if the settings have none.

    Raises:
        ConfigurationError: Two settings contradict each other.

    """
    unused_seconds = _UNUSED_IDLE_TIMES * settings.session_idle_seconds
    if not settings.has_database:
        alone = "" if settings.namespace is None else ", and TMCP_NAMESPACE is of no use"
        logger.warning("TMCP_DATABASE_URL is not set: sessions stay in the memory of this process%s", alone)
        return _in_memory(settings, unused_seconds=unused_seconds)
    from tmcp_serverless.postgres import (  # only with a database
        PostgresInfoSessionManager,
        PostgresKeyStore,
        PostgresStreamSessionManager,
    )
    from tmcp_serverless.postgres.connect.configured import database_for  # the same

    database = database_for(settings)
    namespace = settings.namespace or namespace or DEFAULT_NAMESPACE
    streams = PostgresStreamSessionManager(
        database,
        create=settings.create_tables,
        doorbell=settings.doorbell,
        # The sweep also covers other servers' mailboxes. Their sessions may be kept for longer than ours.
        unused_seconds=max(unused_seconds, _UNUSED_SECONDS),
        linger_seconds=_linger_seconds(),
        inbox_bytes=settings.max_inbox_bytes,
        namespace=namespace,
    )
    return SessionManagers(
        streams=streams,
        info=PostgresInfoSessionManager(
            database,
            create=settings.create_tables,
            idle_seconds=settings.session_idle_seconds,
            max_subscriptions=settings.max_subscriptions,
            namespace=namespace,
        ),
        events=streams.events,
        keys=PostgresKeyStore(database, create=settings.create_tables, namespace=namespace),
        resources=(database,),
    )


def _in_memory(settings: Settings, *, unused_seconds: float) -> SessionManagers:
    from tmcp_serverless.sessions import (  # only without a database
        InMemoryEventTopic,
        InMemoryInfoSessionManager,
        InMemoryKeyStore,
        InMemoryStreamSessionManager,
    )

    streams = InMemoryStreamSessionManager(
        unused_seconds=unused_seconds, inbox_bytes=settings.max_inbox_bytes
    )
    return SessionManagers(
        streams=streams,
        info=InMemoryInfoSessionManager(
            idle_seconds=settings.session_idle_seconds,
            streams=streams,
            max_subscriptions=settings.max_subscriptions,
        ),
        events=InMemoryEventTopic(),
        keys=InMemoryKeyStore(),
    )


def _linger_seconds() -> float:
    # Lambda freezes a sandbox when its invocation ends, with every connection that is still open.
    on_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ or "AWS_LAMBDA_RUNTIME_API" in os.environ
    return 0.0 if on_lambda else _LINGER_SECONDS
