"""Live streams over Postgres: leases, and mailboxes that their holders read.

Delivery promise: in order, without loss, and each message to one holder. A read takes the next page and moves
the lease's cursor over it in one statement that succeeds only for the lease's holder; so a take-over, which
needs the same row, comes either before the page or after it, never in between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.instance import instance_name
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.doorbell import Doorbell
from tmcp_serverless.postgres.held import HeldStream, OpenStreams
from tmcp_serverless.postgres.identifiers import channel_name
from tmcp_serverless.postgres.mailboxes import Mailboxes
from tmcp_serverless.postgres.reading import Reading
from tmcp_serverless.postgres.schema import streams_component
from tmcp_serverless.postgres.sweeping import sweep_streams
from tmcp_serverless.postgres.tables import PostgresManager, Tables
from tmcp_serverless.sessions.contracts import StreamSessionManager
from tmcp_serverless.sessions.cursors import Cursor
from tmcp_serverless.sessions.ids import BROADCAST, EVENTS, is_private, mint_watch
from tmcp_serverless.sessions.pump import Pump
from tmcp_serverless.sessions.records import CloseReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.postgres.database import Connection
    from tmcp_serverless.postgres.doorbell import DoorbellMode
    from tmcp_serverless.postgres.rings import Ring
    from tmcp_serverless.sessions.pump import Page
    from tmcp_serverless.sessions.records import StreamController

__all__ = ["PostgresStreamSessionManager"]

logger = logging.getLogger(__name__)


class PostgresStreamSessionManager(PostgresManager, StreamSessionManager):
    """Streams that any instance can send to, wherever they are open.

    Args:
        dsn: A libpq connection string with user, password and any `sslmode`; or a `Database` to share.
        listen_dsn: A direct connection to the same database, where `dsn` goes through a pooler.
        table_name: The table of leases; the kit's further tables take their names from it.
        create: Whether missing tables are created; if not, no DDL is ever issued.
        doorbell: How streams learn that there is something to read: `listen`, `poll`, or whichever works.
        lease_seconds: How long a stream that was not refreshed still counts as live.
        heartbeat_seconds: How often the streams of this process are refreshed, in one statement.
        retention_seconds: How long messages are kept for a stream that is away.
        retention_rows: How many messages of one mailbox are kept at the most, give or take a few.
        unused_seconds: How long the place of a session that has no stream is kept; longer than sessions live.
        retention_bytes: How many bytes of one mailbox are kept at the most, give or take a few messages.

    """

    def __init__(
        self,
        dsn: str | Database,
        *,
        listen_dsn: str | None = None,
        table_name: str = "tmcp_sessions",
        create: bool = True,
        doorbell: DoorbellMode = "auto",
        lease_seconds: float = 10.0,
        heartbeat_seconds: float = 3.0,
        retention_seconds: float = 600.0,
        retention_rows: int = 10_000,
        retention_bytes: int = 64 * 1024 * 1024,
        unused_seconds: float = 604_800,
    ) -> None:
        self._database = dsn if isinstance(dsn, Database) else Database(dsn, listen_dsn=listen_dsn)
        self._tables = Tables(self._database, streams_component(table_name), create=create)
        self._lease = timedelta(seconds=lease_seconds)
        self._retention = timedelta(seconds=retention_seconds)
        self._unused = timedelta(seconds=unused_seconds)
        self._mailboxes = Mailboxes(
            self._tables,
            lease=self._lease,
            retention_rows=retention_rows,
            retention_bytes=retention_bytes,
        )
        self._scope = self._tables.component.tables["sessions"]
        self._topic_channel = channel_name(self._scope, BROADCAST)
        self._events_channel = channel_name(self._scope, EVENTS)
        self._streams: dict[str, HeldStream] = {}
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retired: list[Pump] = []
        self._doorbell = Doorbell(
            self._database,
            mode=doorbell,
            tick=self._heartbeat,
            look=self._look,
            gone=self._on_gone,
            tick_seconds=heartbeat_seconds,
            patience_seconds=lease_seconds,
        )
        self._reading = Reading(self._tables, self._doorbell)

    async def prepare(self, id: str) -> None:
        """Make the session's mailbox, whose broadcasts begin here."""
        await self._tables.fetchrow("prepare", id, idempotent=True)

    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller."""
        start = (None, None) if after is None else Cursor.parse(after)
        stream = self._new_stream(id, controller)
        await self._tables.ready()
        # One after the other: who claims last is to be the one that is registered, in this process too.
        async with self._claiming.setdefault(id, asyncio.Lock()):
            await self._claim(stream, start)

    async def _claim(self, stream: HeldStream, start: tuple[int | None, int | None]) -> None:
        id, channel = stream.id, channel_name(self._scope, stream.id)
        await self._doorbell.open(channel, stream.ring)
        try:
            if not is_private(id):
                await self._doorbell.open(self._topic_channel, stream.ring_topic)
            claimed = await self._tables.fetchrow(
                "claim", id, stream.holder, channel, *start, idempotent=True
            )
            assert claimed is not None  # noqa: S101 - the statement returns the row that it wrote
        except BaseException:
            await self._doorbell.close(*self._doors(stream))
            raise
        stream.cursor = Cursor(claimed[0], claimed[1])
        stream.last = Cursor(claimed[2], claimed[1] if is_private(id) else claimed[3])
        held, self._streams[id] = self._streams.get(id), stream
        stream.pump.start(str(stream.cursor))
        if held is not None:
            self._retire(held, CloseReason.SUPERSEDED)

    def _new_stream(self, id: str, controller: StreamController) -> HeldStream:
        async def read() -> Page | CloseReason:
            return await (self._reading.peek(stream) if stream.watches else self._reading.read(stream))

        # The holder is a fencing token; the place in front of it is for `tmcp-serverless sessions`.
        holder = f"{instance_name()} {secrets.token_hex(12)}"
        start = Cursor(0, 0)
        stream = HeldStream(id, holder, Pump(controller, read), cursor=start, before=start, last=start)
        return stream

    async def watch(self, controller: StreamController) -> str:
        """Read broadcasts and events from now on. LISTEN holds before the place is taken."""
        stream = self._new_stream(mint_watch(), controller)
        await self._tables.ready()
        await self._doorbell.open(self._events_channel, stream.ring)
        try:
            await self._doorbell.open(self._topic_channel, stream.ring)
            row = await self._tables.fetchrow("watch", idempotent=True)
            assert row is not None  # noqa: S101 - the statement returns the row that it wrote
        except BaseException:
            await self._doorbell.close(*self._doors(stream))
            raise
        stream.cursor = stream.last = Cursor(row[0], row[1])
        self._streams[stream.id] = stream
        stream.pump.start(str(stream.cursor))
        return stream.id

    async def publish(self, data: str) -> None:
        """Append an event for those who watch, in one statement."""
        await self._mailboxes.publish(data, self._events_channel)

    async def release(self, id: str, controller: StreamController) -> None:
        """End this controller's stream, and keep its cursor for the next one."""
        stream = self._streams.get(id)
        if stream is None or stream.pump.controller is not controller:
            return
        del self._streams[id]
        try:
            await stream.pump.stop()
            if not stream.watches:
                await self._tables.fetchrow(
                    "release", id, stream.holder, *stream.resume_cursor, idempotent=True
                )
        finally:
            await self._doorbell.close(*self._doors(stream))

    async def delete(self, id: str) -> None:
        """End the session's streams wherever they are, and forget its messages."""
        await self._tables.fetch("delete", id, idempotent=True)
        ended = [key for key in self._streams if key == id or key.startswith(f"{id}/")]
        streams = [self._streams.pop(key) for key in ended]
        for stream in streams:
            self._retire(stream, CloseReason.DELETED)
        if streams:
            await self._doorbell.close(*(door for stream in streams for door in self._doors(stream)))

    async def has(self, id: str) -> bool:
        """Return whether a fresh lease exists."""
        row = await self._tables.fetchrow("has", id, self._lease, idempotent=True)
        return bool(row and row[0])

    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append the message, in one statement; what is committed is delivered."""
        if "\0" in data:
            raise ValueError("a message is JSON text, which has no NUL character (JSON writes it as \\u0000)")
        if sessions is None:
            await self._mailboxes.broadcast(data, self._topic_channel)
            return
        ids = list(dict.fromkeys(sessions))
        if len(ids) == 1:
            await self._mailboxes.append(ids[0], data)
        elif ids:
            await self._mailboxes.append_to_all(ids, data)

    async def append(self, id: str, data: str, *, after: str | None = None) -> str:
        """Append a message to one mailbox and return its cursor."""
        if after is None:
            return await self._mailboxes.append(id, data)
        return await self._mailboxes.append_at(id, Cursor.parse(after).own + 1, data)

    async def deliver(self, id: str, data: str) -> bool:
        """Append a message to a mailbox that exists already."""
        return await self._mailboxes.deliver(id, data)

    async def interrupt(self, id: str) -> None:
        """End the session's stream wherever it is; its cursor stays."""
        await self._tables.fetchrow("interrupt", id, idempotent=True)

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` stale leases, old messages and unused mailboxes each; returns how many."""
        return await sweep_streams(
            self._tables, lease=self._lease, retention=self._retention, unused=self._unused, limit=limit
        )

    async def aclose(self) -> None:
        """End this process's streams, give their leases back and close the connections."""
        for stream in list(self._streams.values()):
            stream.pump.abort(CloseReason.SHUTDOWN)
            try:
                await self.release(stream.id, stream.pump.controller)
            except StoreUnavailableError as error:
                logger.debug("the lease of %s is left to expire: %s", stream.id, error)
        for pump in self._retired:
            await pump.stop()
        await self._doorbell.close()
        await self._database.aclose()

    async def _heartbeat(self, connection: Connection | None) -> None:
        """Refresh every lease of this process in one statement; ring the fenced, and those with news."""
        open_now = OpenStreams.of(self._streams.values())
        if not open_now.holders:
            return
        if connection is None:
            rows = await self._tables.fetch("heartbeat", *open_now.columns, idempotent=True)
        else:
            rows = await connection.fetch(self._tables.sql["heartbeat"], *open_now.columns)
        self._ring(open_now.holders - {row[0] for row in rows})

    async def _look(self) -> bool:
        """Find in one statement which streams of this process have news, and ring these."""
        open_now = OpenStreams.of(self._streams.values())
        if not open_now.holders:
            return False
        rows = await self._tables.fetch("news", *open_now.columns, idempotent=True)
        self._ring({row[0] for row in rows})
        return bool(rows)

    def _ring(self, holders: set[str]) -> None:
        for stream in self._streams.values():
            if stream.holder in holders:
                stream.ring_topic()

    def _on_gone(self) -> None:
        for stream in self._streams.values():
            stream.pump.close(CloseReason.UNAVAILABLE)

    def _retire(self, stream: HeldStream, reason: CloseReason) -> None:
        """End a stream that is not its transport's to end; it may be in the middle of a read or a write."""
        stream.pump.close(reason)
        self._retired = [pump for pump in [*self._retired, stream.pump] if not pump.finished]
        self._doorbell.forget(*self._doors(stream))

    def _doors(self, stream: HeldStream) -> tuple[tuple[str, Ring], ...]:
        if stream.watches:
            return (self._topic_channel, stream.ring), (self._events_channel, stream.ring)
        own = channel_name(self._scope, stream.id)
        return (self._topic_channel, stream.ring_topic), (own, stream.ring)
