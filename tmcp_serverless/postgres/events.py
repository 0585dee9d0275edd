"""The topic of events over Postgres: one row and one ring for any number of watches, on any instance.

A watch is a stream without a lease: a topic has no owner, so nothing is fenced, and each watch keeps its
cursor in its own process.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.held import HeldStream
from tmcp_serverless.sessions import Cursor, Pump, refuse_nul

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tmcp_serverless.postgres.doors import Doors
    from tmcp_serverless.postgres.mailboxes import Mailboxes
    from tmcp_serverless.postgres.reading import Reading
    from tmcp_serverless.postgres.tables import Tables
    from tmcp_serverless.sessions import Page, StreamController

__all__ = ["PostgresEventTopic"]


class PostgresEventTopic:
    """An `EventTopic` in the tables of a stream manager: `PostgresStreamSessionManager.events`.

    It shares the manager's connections, and ends with it.

    Args:
        tables: The tables with the mailboxes.
        mailboxes: Writes to them.
        doors: The channels of the doorbell.
        reading: Reads for all streams of this process.
        streams: The streams and watches of this process, which share a heartbeat.

    """

    def __init__(
        self,
        tables: Tables,
        mailboxes: Mailboxes,
        doors: Doors,
        reading: Reading,
        streams: dict[str, HeldStream],
    ) -> None:
        self._tables = tables
        self._mailboxes = mailboxes
        self._doors = doors
        self._reading = reading
        self._streams = streams

    @property
    def namespace(self) -> str:
        """The topic's part of the tables."""
        return self._tables.namespace.name

    async def publish(self, data: str) -> None:
        """Append an event, in one statement."""
        refuse_nul(data)
        await self._mailboxes.publish(data)

    @asynccontextmanager
    async def watch(self, controller: StreamController) -> AsyncGenerator[None]:
        """Write every event to the controller from now on. LISTEN holds before the cursor is taken."""
        watch = self._new_watch(controller)
        await self._tables.ready()
        await self._doors.open(watch)
        try:
            row = await self._tables.fetchrow("watch", idempotent=True)
            assert row is not None  # noqa: S101 - the statement returns the row that it wrote
            watch.cursor = Cursor(row[0], 0)
            self._streams[watch.id] = watch
            watch.pump.start(str(watch.cursor))
            yield
        finally:
            await self._end(watch)

    def _new_watch(self, controller: StreamController) -> HeldStream:
        async def read() -> Page:
            return await self._reading.peek(watch)

        holder = f"watch {secrets.token_hex(12)}"
        watch = HeldStream(holder, holder, Pump(controller, read), watches=True)
        return watch

    async def _end(self, watch: HeldStream) -> None:
        self._streams.pop(watch.id, None)
        try:
            await watch.pump.stop()
        finally:
            if watch.unreachable:
                self._doors.forget(watch)
            else:
                await self._doors.close(watch)
