"""The topic of events over Postgres: one row and one ring for any number of watches, on any instance.

A watch is a stream without a lease: a topic has no owner, so nothing is fenced, and each watch keeps its
cursor in its own process.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.stream import Watch
from tmcp_serverless.sessions import Cursor, refuse_nul

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tmcp_serverless.postgres.mailboxes import Mailboxes
    from tmcp_serverless.postgres.statements import Statements
    from tmcp_serverless.postgres.stream import Reader, Stream
    from tmcp_serverless.sessions import StreamController

__all__ = ["PostgresEventTopic"]


class PostgresEventTopic:
    """An `EventTopic` in the tables of a stream manager: `PostgresStreamSessionManager.events`.

    It shares the manager's connections, and ends with it.

    Args:
        statements: The statements of the tables with the mailboxes.
        mailboxes: Writes to them.
        reader: Reads for all streams of this process.
        streams: The streams and watches of this process, which share a heartbeat.

    """

    def __init__(
        self,
        statements: Statements,
        mailboxes: Mailboxes,
        reader: Reader,
        streams: dict[str, Stream],
    ) -> None:
        self._statements = statements
        self._mailboxes = mailboxes
        self._reader = reader
        self._streams = streams

    @property
    def namespace(self) -> str:
        """The topic's part of the tables."""
        return self._statements.namespace.name

    async def publish(self, data: str) -> None:
        """Append an event, in one statement."""
        refuse_nul(data)
        await self._mailboxes.publish(data)

    @asynccontextmanager
    async def watch(self, controller: StreamController) -> AsyncGenerator[None]:
        """Write every event to the controller from now on. LISTEN holds before the cursor is taken."""
        watch = self._new_watch(controller)
        await self._statements.ready()
        await self._reader.open(watch)
        try:
            row = await self._statements.fetchrow("watch", idempotent=True)
            assert row is not None  # noqa: S101 - the statement returns the row that it wrote
            self._streams[watch.id] = watch
            watch.start(Cursor(row[0], 0))
            yield
        finally:
            await self._end(watch)

    def _new_watch(self, controller: StreamController) -> Watch:
        holder = f"watch {secrets.token_hex(12)}"
        return Watch(holder, holder, controller, self._reader)

    async def _end(self, watch: Watch) -> None:
        self._streams.pop(watch.id, None)
        try:
            await watch.pump.stop()
        finally:
            if watch.unreachable:
                self._reader.forget(watch)
            else:
                await self._reader.close(watch)
