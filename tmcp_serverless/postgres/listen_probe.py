"""A trial of LISTEN with a real notification: behind a pooler LISTEN succeeds and nothing ever comes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.failures import RingingError

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Connection, Database

__all__ = ["delivers", "hear_nonce"]

logger = logging.getLogger(__name__)

_NONCE_SECONDS = 2.0
_POOLED_NONCE_SECONDS = 0.5
"""The time if a setting was refused that servers take: a pooler is there, and as a rule swallows LISTEN."""

_IDLE_TIME_SINCE = (14,)
"""From this version of Postgres on, only poolers refuse `idle_session_timeout`."""


async def delivers(database: Database, connection: Connection) -> bool:
    """Return true if the connection hears notifications; warn if it does not."""
    try:
        if await hear_nonce(database, connection) is not None:
            return True
    except RingingError as error:
        # As a rule LISTEN delivers; if it does not, heartbeats find the messages.
        logger.warning("LISTEN cannot be tried now, and is taken to deliver: %s", error)
        return True
    logger.warning(
        "LISTEN does not deliver here (a pooler in transaction mode?), so streams poll instead; "
        "set TMCP_LISTEN_URL to a direct connection to the same database, or TMCP_DOORBELL=poll"
    )
    return False


async def hear_nonce(database: Database, connection: Connection) -> float | None:
    """Return the seconds until the connection heard a notification; `None` if it heard nothing.

    The nonce is sent on another connection, as every real ring is: a pooler may well bring a notification
    back to the connection that sent it. `None` is returned only if the connection answers all the same: any
    other failure tells nothing of LISTEN, is raised, and leaves the connection without further use.

    Raises:
        StoreUnavailableError: The nonce could not be sent.
        OSError: The connection did not answer. Any other error of the driver: the connection was lost.

    """
    heard_at: list[float] = []
    heard = asyncio.Event()
    channel = f"tmcp_nonce_{secrets.token_hex(16)}"

    def on_nonce(*_: object) -> None:
        heard_at.append(time.perf_counter())
        heard.set()

    await connection.listen([channel], on_nonce)
    sent_at = time.perf_counter()
    await database.fetchrow("SELECT pg_catalog.pg_notify($1, '')", channel, idempotent=True)
    try:
        async with asyncio.timeout(_patience_seconds(database, connection)):
            await heard.wait()
    except TimeoutError:
        # The server sends pending notifications before it answers this. So a slow notification is heard.
        await connection.execute("SELECT 1")
        await asyncio.sleep(0)  # The driver calls back in the loop's next turn.
    await connection.unlisten([channel])
    return heard_at[0] - sent_at if heard_at else None


def _patience_seconds(database: Database, connection: Connection) -> float:
    takes_idle_time = database.listen_target.takes_idle_time
    if takes_idle_time or connection.get_server_version() < _IDLE_TIME_SINCE:
        return _NONCE_SECONDS
    return _POOLED_NONCE_SECONDS
