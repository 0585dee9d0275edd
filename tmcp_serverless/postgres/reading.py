"""Reading a stream's messages.

A read is fenced: it moves the lease's cursor in the statement that returns the page, and only if the lease is
still this holder's. A take-over updates the same row, so one of the two comes first. After the take-over, the
read finds no lease of its own; after the read, the new holder begins behind the page.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.paging import page_of
from tmcp_serverless.sessions import CloseReason, Cursor, Page, StoredEvent
from tmcp_serverless.sessions.addresses import is_private

if TYPE_CHECKING:
    from tmcp_serverless.postgres.doorbell import Doorbell
    from tmcp_serverless.postgres.held import HeldStream
    from tmcp_serverless.postgres.tables import Tables

__all__ = ["Reading"]


class Reading:
    """The reads of all streams of this process.

    A broadcast makes all streams read at once. They take turns on half of the pool's connections, so that
    they do not stand in line before the requests.
    """

    def __init__(self, tables: Tables, doorbell: Doorbell) -> None:
        self._tables = tables
        self._doorbell = doorbell
        self._turns = asyncio.Semaphore(max(1, tables.database.size // 2))

    async def read(self, stream: HeldStream) -> Page | CloseReason:
        """Return the next page, or the reason that the stream is no longer its holder's."""
        heard, unsure = (stream.heard, stream.heard_topic), stream.unsure
        stream.heard, stream.heard_topic, stream.unsure = 0, 0, False
        stream.before = stream.cursor
        try:
            if not unsure and sum(heard) == 1 and (page := await self._next(stream, own=heard[0] == 1)):
                return page
            async with self._turns:
                outcome = await self._page(stream)
        except BaseException:
            # The messages that were heard of are still to be read.
            stream.unsure = True
            raise
        if isinstance(outcome, Page) and outcome.more:
            stream.unsure = True
        return outcome

    async def peek(self, stream: HeldStream) -> Page:
        """Return the next page for a watch."""
        async with self._turns:
            rows = await self._tables.fetch("peek", stream.cursor.own, idempotent=True)
        page, stream.cursor = page_of(rows, stream.cursor)
        return page

    async def _next(self, stream: HeldStream, *, own: bool) -> Page | None:
        """Return the one message that was heard of; `None` if it is not the next one.

        Every append rings once, in the order of the numbers, and is visible when it rings. So if everything
        was read before, one ring means one message. If there is one more that did not ring, because no
        holder had a fresh lease then, the heartbeat finds it.
        """
        name, cursor = ("read_next", stream.cursor.own) if own else ("read_next_topic", stream.cursor.topic)
        if self._doorbell.is_idle:
            row = await self._doorbell.fetchrow(self._tables.sql[name], stream.id, stream.holder, cursor)
        else:
            async with self._turns:
                row = await self._tables.fetchrow(name, stream.id, stream.holder, cursor, idempotent=True)
        if row is None:
            return None
        stream.cursor = Cursor(row[0], stream.cursor.topic) if own else Cursor(stream.cursor.own, row[0])
        return Page((StoredEvent(row[1], str(stream.cursor)),))

    async def _page(self, stream: HeldStream) -> Page | CloseReason:
        rows = await self._tables.fetch(
            "read", stream.id, stream.holder, *stream.cursor, not is_private(stream.id), idempotent=True
        )
        if not rows:
            return await self._why_fenced(stream.id)
        page, cursor = page_of(rows, stream.cursor)
        if page.missed:
            # The cursor has jumped over expired messages, and no row of the page has moved the lease there.
            await self._tables.fetchrow("move", stream.id, stream.holder, *cursor, idempotent=True)
        # Last: if this read fails, the next one is to find the same page.
        stream.cursor = cursor
        return page

    async def _why_fenced(self, id: str) -> CloseReason:
        if await self._tables.fetchrow("holder", id, idempotent=True) is not None:
            return CloseReason.SUPERSEDED
        row = await self._tables.fetchrow("exists", id, idempotent=True)
        return CloseReason.INTERRUPTED if row is not None and row[0] else CloseReason.DELETED
