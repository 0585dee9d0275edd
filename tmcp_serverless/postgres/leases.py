"""Leases of sessions' streams: claiming a lease, and giving it back."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.sessions import Cursor

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tmcp_serverless.postgres.held import HeldStream
    from tmcp_serverless.postgres.tables import Tables

__all__ = ["ANY_AGE", "Leases"]

logger = logging.getLogger(__name__)

ANY_AGE = -86_400.0
"""As `after_seconds` of a claim: every lease counts as old enough."""

_UNDO_SECONDS = 1.0
"""A caller that is cancelled while it claims waits this long for the undoing. The claim is undone anyway."""

_CLOSE_SECONDS = 2.0


class Leases:
    """The leases of this process's streams."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._kept: set[asyncio.Task[Any]] = set()
        self._left: list[HeldStream] = []

    async def claim(
        self,
        stream: HeldStream,
        channel: str,
        start: tuple[int | None, int | None],
        *,
        after_seconds: float | None = None,
    ) -> Cursor | None:
        """Take the lease for the stream from any other holder, and return the cursor to read from.

        With `after_seconds`, a lease that was refreshed within that time stays with its holder, and `None` is
        returned. If this fails or is cancelled, a lease that was claimed all the same is given back.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        # A statement that is cancelled may be committed or not, and may go on at the server for a while. So
        # it runs to its end: only then can it be undone.
        claiming = self._keep(
            self._tables.fetchrow(
                "claim", stream.id, stream.holder, channel, *start, after_seconds, idempotent=True
            )
        )
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            undoing = self._keep(self._undo(claiming, stream))
            await asyncio.wait({undoing}, timeout=_UNDO_SECONDS)
            raise
        except StoreUnavailableError:
            self._keep(self._undo(claiming, stream))
            raise
        return None if claimed is None else Cursor(claimed[0], claimed[1])

    async def give_back(self, stream: HeldStream) -> None:
        """End the lease, and keep the stream's cursor for the next one. Another holder's lease stays.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        await self._tables.fetchrow(
            "release", stream.id, stream.holder, *stream.resume_cursor, idempotent=True
        )

    def give_back_later(self, stream: HeldStream) -> None:
        """Give the lease back once the database can be reached, if that is soon; else the lease expires."""
        self._left.append(stream)
        if len(self._left) == 1:
            self._keep(self._give_back_all())

    async def aclose(self) -> None:
        """Wait a moment for the claims and returns that are under way, then cancel them."""
        if self._kept:
            await asyncio.wait(self._kept, timeout=_CLOSE_SECONDS)
        for task in self._kept:
            task.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)

    async def _undo(self, claiming: asyncio.Task[Any], stream: HeldStream) -> None:
        await asyncio.wait({claiming})
        # If its reply was lost, the claim may have been committed too.
        failure = None if claiming.cancelled() else claiming.exception()
        if failure is None or isinstance(failure, StoreUnavailableError):
            try:
                await self._tables.fetchrow("release", stream.id, stream.holder, None, None, idempotent=True)
            except (TmcpError, asyncpg.PostgresError) as error:
                logger.debug("the lease of %s is left to expire: %r", stream.id, error)

    async def _give_back_all(self) -> None:
        # One after the other: requests that wait for a connection are not to wait for all leases.
        try:
            while self._left:
                await self.give_back(self._left[0])
                del self._left[0]
        except (TmcpError, asyncpg.PostgresError) as error:
            logger.debug("%d leases are left to expire: %r", len(self._left), error)
        finally:
            self._left.clear()

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task
