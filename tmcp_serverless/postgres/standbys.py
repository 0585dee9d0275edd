"""Streams of this process that wait until another connection releases their lease.

The process asks for all waiting streams in one statement, as often as it refreshes its leases, and not at all
while none waits. A lease that this process releases wakes a stream that waits for it at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING

import asyncpg

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.sessions import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.tables import Tables

__all__ = ["Standbys"]

logger = logging.getLogger(__name__)


class Standbys(Turns):
    """The streams that wait, and the task that asks the database for them.

    Args:
        tables: The tables with the leases.
        lease_seconds: The life of a lease that is not refreshed.
        look_seconds: The time between two questions to the database.

    """

    def __init__(self, tables: Tables, *, lease_seconds: float, look_seconds: float) -> None:
        super().__init__()
        self._tables = tables
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._keeper: asyncio.Task[None] | None = None

    async def wait(self, id: str, claim: Callable[[], Awaitable[bool]]) -> None:
        """Call `claim` now, and each time that the stream's lease may be free, until it returns true."""
        if self._keeper is None or self._keeper.done():
            # In its own context: the task outlives the request that happens to be the first.
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), context=contextvars.Context())
        await super().wait(id, claim)

    async def aclose(self) -> None:
        """Stop asking the database."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            if not self.ids:
                return
            try:
                await self._look()
            except (TmcpError, asyncpg.PostgresError) as error:
                logger.debug("streams that stand by are looked after later: %r", error)

    async def _look(self) -> None:
        for row in await self._tables.fetch("vacant", self.ids, self._lease_seconds, idempotent=True):
            self.wake(row[0])
