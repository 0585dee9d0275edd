"""Whether LISTEN delivers, found out by what arrives: behind a pooler it succeeds and nothing ever comes."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.failures import POOLED_STATEMENT

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Connection, Database

__all__ = ["hear_nonce"]

_NONCE_SECONDS = 2.0


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
        await connection.add_listener(channel, on_nonce)
        sent_at = time.perf_counter()
        await database.fetchrow("SELECT pg_notify($1, '')", channel, again=True)
        async with asyncio.timeout(_NONCE_SECONDS):
            await heard.wait()
        return time.perf_counter() - sent_at
    except (TimeoutError, *POOLED_STATEMENT):
        # The second: a pooler has lent us the link that somebody else has prepared statements on.
        return None
    finally:
        await connection.remove_listener(channel, on_nonce)
