"""Whether LISTEN delivers, found out by what arrives: behind a pooler it succeeds and nothing ever comes."""

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
"""Where a setting was refused that servers take: there is a pooler, and as a rule it swallows LISTEN."""

_IDLE_TIME_SINCE = (14,)
"""The version of Postgres from which on `idle_session_timeout` is refused by poolers alone."""


async def delivers(database: Database, connection: Connection) -> bool:
    """Return whether the connection hears notifications; warn where it does not."""
    try:
        if await hear_nonce(database, connection) is not None:
            return True
    except RingingError as error:
        # As a rule it does; where it does not, heartbeats find what there is to read.
        logger.warning("LISTEN cannot be tried now, and is taken to deliver: %s", error)
        return True
    logger.warning(
        "LISTEN does not deliver here (a pooler in transaction mode?), so streams poll instead; "
        "set TMCP_LISTEN_URL to a direct connection to the same database, or TMCP_DOORBELL=poll"
    )
    return False


async def hear_nonce(database: Database, connection: Connection) -> float | None:
    """Return after how many seconds the connection heard a notification; `None` when it heard nothing.

    The nonce is sent on another connection, as every real ring is: a pooler may well bring a notification
    back to the connection that sent it. `None` is said only of a connection that answers all the same:
    whatever else goes wrong tells nothing of LISTEN. The connection is then of no use any more.

    Raises:
        StoreUnavailableError: The nonce could not be sent.
        OSError: The connection did not answer. Or any other error of the driver: it was lost.

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
        # The server sends what it has for us before it answers this. So one that was only slow is heard.
        await connection.execute("SELECT 1")
        await asyncio.sleep(0)  # The driver calls back in the loop's next turn.
    await connection.unlisten([channel])
    return heard_at[0] - sent_at if heard_at else None


def _patience_seconds(database: Database, connection: Connection) -> float:
    takes_idle_time = database.listen_target.takes_idle_time
    if takes_idle_time or connection.get_server_version() < _IDLE_TIME_SINCE:
        return _NONCE_SECONDS
    return _POOLED_NONCE_SECONDS
