"""Streams of this process that wait until another connection lets their lease go.

However many wait, the process asks for all of them in one statement, as often as it refreshes its leases, and
not at all while none waits. A lease that this process lets go wakes them at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

import asyncpg

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.tables import Tables

__all__ = ["Standbys"]

logger = logging.getLogger(__name__)


class Standbys:
    """Rings the streams that wait when their leases are free.

    Args:
        tables: Where the leases are.
        lease_seconds: How long a lease lives that is not refreshed.
        look_seconds: How often the database is asked.

    """

    def __init__(self, tables: Tables, *, lease_seconds: float, look_seconds: float) -> None:
        self._tables = tables
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._waiting: defaultdict[str, dict[asyncio.Event, None]] = defaultdict(dict)
        self._keeper: asyncio.Task[None] | None = None

    async def wait(self, id: str, claim: Callable[[], Awaitable[bool]]) -> None:
        """Call `claim` each time the stream's lease may be free, until it returns true."""
        turn = asyncio.Event()
        self._waiting[id][turn] = None
        if self._keeper is None or self._keeper.done():
            # In a context of its own: it outlives the request that happens to be the first.
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), context=contextvars.Context())
        try:
            while True:
                await turn.wait()
                turn.clear()
                if await claim():
                    return
        finally:
            del self._waiting[id][turn]
            if not self._waiting[id]:
                del self._waiting[id]

    def wake(self, id: str) -> None:
        """Ring the one that has waited longest for this stream: its lease is free."""
        if turns := self._waiting.get(id):
            next(iter(turns)).set()

    async def aclose(self) -> None:
        """Ask no more."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._look_seconds)
            try:
                await self._look()
            except (TmcpError, asyncpg.PostgresError) as error:
                logger.debug("streams that stand by are looked after later: %r", error)

    async def _look(self) -> None:
        if ids := list(self._waiting):
            for row in await self._tables.fetch("vacant", ids, self._lease_seconds, idempotent=True):
                self.wake(row[0])
