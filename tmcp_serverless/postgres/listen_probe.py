"""Whether LISTEN delivers, found out by what arrives: behind a pooler it succeeds and nothing ever comes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.failures import POOLED_STATEMENT

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Connection, Database

__all__ = ["delivers", "hear_nonce"]

logger = logging.getLogger(__name__)

_NONCE_SECONDS = 2.0
_POOLED_NONCE_SECONDS = 0.5
"""Where a setting was refused that servers take: there is a pooler, and as a rule it swallows LISTEN."""


async def delivers(database: Database, connection: Connection) -> bool:
    """Return whether the connection hears notifications; warn where it does not."""
    if await hear_nonce(database, connection) is not None:
        return True
    logger.warning(
        "LISTEN does not deliver here (a pooler in transaction mode?), so streams poll instead; "
        "set TMCP_LISTEN_URL to a direct connection to the same database, or TMCP_DOORBELL=poll"
    )
    return False


async def hear_nonce(database: Database, connection: Connection) -> float | None:
    """Return after how many seconds the connection heard a notification; `None` when it heard nothing.

    The nonce is sent on another connection, as every real ring is: a pooler may well bring a notification
    back to the connection that sent it.
    """
    heard = asyncio.Event()
    channel = f"tmcp_nonce_{secrets.token_hex(16)}"

    def on_nonce(*_: object) -> None:
        heard.set()

    try:
        await connection.listen([channel], on_nonce)
        sent_at = time.perf_counter()
        await database.fetchrow("SELECT pg_notify($1, '')", channel, idempotent=True)
        seconds = _NONCE_SECONDS if database.listen_target.takes_idle_time else _POOLED_NONCE_SECONDS
        async with asyncio.timeout(seconds):
            await heard.wait()
        return time.perf_counter() - sent_at
    except (TimeoutError, *POOLED_STATEMENT):
        # The second: a pooler has lent us the link that somebody else has prepared statements on.
        return None
    finally:
        await connection.unlisten(channel)
