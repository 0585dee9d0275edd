"""Live streams over Postgres: leases, and mailboxes that their holders read.

Delivery promise: in order, without loss, and each message to one holder. A read takes the next page and moves
the lease's cursor over it in one statement that succeeds only for the lease's holder. A take-over needs the
same row, so it comes either before the page or after it, never in between.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import cached_property, partial
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.logs import instance_name
from tmcp_serverless.postgres.components import streams_component
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.doorbell import Doorbell
from tmcp_serverless.postgres.events import PostgresEventTopic
from tmcp_serverless.postgres.identifiers import DEFAULT_NAMESPACE
from tmcp_serverless.postgres.leases import ANY_AGE, Heartbeats, Leases, Standbys
from tmcp_serverless.postgres.mailboxes import Mailboxes
from tmcp_serverless.postgres.statements import PostgresManager, Statements
from tmcp_serverless.postgres.stream import Reader, Stream
from tmcp_serverless.postgres.sweeping import Sweeper
from tmcp_serverless.sessions import CloseReason, Cursor, Pump, StreamSessionManager, refuse_nul
from tmcp_serverless.sessions.addresses import LISTEN_LEASES, checked_session_ids, refuse_reserved_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.postgres.doorbell import DoorbellMode
    from tmcp_serverless.sessions import StreamController

__all__ = ["LEASE_SECONDS", "PostgresStreamSessionManager"]

logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""The default time that a stream counts as live after its last refresh."""


class PostgresStreamSessionManager(PostgresManager, StreamSessionManager):
    """Streams in Postgres. Any instance can send to a stream that is open on any other.

    Args:
        dsn: A libpq connection string with user, password and any `sslmode`; or a `Database` to share.
        listen_dsn: A direct connection to the same database, if `dsn` goes through a pooler.
        table_name: The table of leases; the kit's further tables take their names from it.
        create: True to create missing tables; if false, no DDL is ever issued.
        doorbell: The way that streams learn of new messages: `listen`, `poll`, or `auto` for the one that
            works.
        lease_seconds: A stream counts as live for this time after its last refresh.
        heartbeat_seconds: The time between two refreshes of this process's streams, in one statement.
        retention_seconds: The time that messages are kept for a stream that is away.
        retention_rows: The most messages that one mailbox keeps, give or take a few.
        unused_seconds: The time that the cursor of a session without a stream is kept; longer than sessions
            live.
        retention_bytes: The most bytes that one mailbox keeps, give or take a few messages.
        linger_seconds: The time that the connection that LISTENs is kept after the last stream, so that the
            next stream need not connect; 0 if the process may be frozen as soon as a request has ended.
        inbox_bytes: The most bytes that a client's replies take in all inboxes of its session together.
        namespace: The manager's part of the tables. It sees and changes nothing in another part, except that
            it sweeps expired rows.
        schema: The schema of tables without one in their names: by default the database's, or the first that
            the role may use.

    """

    def __init__(
        self,
        dsn: str | Database,
        *,
        listen_dsn: str | None = None,
        table_name: str = "tmcp_sessions",
        create: bool = True,
        doorbell: DoorbellMode = "auto",
        lease_seconds: float = LEASE_SECONDS,
        heartbeat_seconds: float = 3.0,
        retention_seconds: float = 600.0,
        retention_rows: int = 10_000,
        retention_bytes: int = 64 * 1024 * 1024,
        unused_seconds: float = 604_800,
        linger_seconds: float = 0.0,
        inbox_bytes: int = 32 * 1024 * 1024,
        namespace: str = DEFAULT_NAMESPACE,
        schema: str | None = None,
    ) -> None:
        self._owns_database = not isinstance(dsn, Database)
        database = dsn if isinstance(dsn, Database) else Database(dsn, listen_dsn=listen_dsn)
        self._statements = Statements(
            database,
            partial(streams_component, table_name),
            create=create,
            namespace=namespace,
            schema=schema,
        )
        self._key = self._statements.key
        self._leases = Leases(self._statements)
        self._lease_seconds = lease_seconds
        self._sweeper = Sweeper(
            self._statements,
            lease_seconds=lease_seconds,
            retention_seconds=retention_seconds,
            unused_seconds=unused_seconds,
        )
        self._mailboxes = Mailboxes(
            self._statements,
            lease_seconds=lease_seconds,
            retention_rows=retention_rows,
            retention_bytes=retention_bytes,
            inbox_bytes=inbox_bytes,
        )
        self._streams: dict[str, Stream] = {}
        self._claiming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._retired: list[Pump] = []
        self._standbys = Standbys(
            self._statements, lease_seconds=lease_seconds, look_seconds=heartbeat_seconds
        )
        self._doorbell = self._new_doorbell(doorbell, heartbeat_seconds, linger_seconds)
        self._reader = Reader(self._statements, self._doorbell)

    def _new_doorbell(self, mode: DoorbellMode, tick_seconds: float, linger_seconds: float) -> Doorbell:
        heartbeats = Heartbeats(self._statements, self._streams)
        return Doorbell(
            self._statements.database,
            mode=mode,
            tick=heartbeats.beat,
            look=heartbeats.look,
            gone=heartbeats.give_up,
            tick_seconds=tick_seconds,
            patience_seconds=self._lease_seconds,
            linger_seconds=linger_seconds,
        )

    async def prepare(self, id: str) -> None:
        """Make the session's mailbox. Its broadcasts begin here."""
        await self._statements.fetchrow("prepare", self._key(id), idempotent=True)

    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller."""
        start = (None, None) if after is None else Cursor.parse(after)
        stream = self._new_stream(self._key(id), controller)
        await self._statements.ready()
        await self._claim(stream, start)

    async def stand_by(
        self, id: str, controller: StreamController, *, after: str | None = None, at_once: bool = False
    ) -> None:
        """Claim the session's stream for this controller as soon as its lease is free."""
        key = self._key(id)
        start = (None, None) if after is None else Cursor.parse(after)
        await self.release(id, controller)  # A stream superseded from elsewhere is still known here.
        await self._statements.ready()

        async def claim(after_seconds: float = self._lease_seconds) -> bool:
            return await self._claim(self._new_stream(key, controller), start, after_seconds=after_seconds)

        if at_once:
            await claim(ANY_AGE)
        else:
            await self._standbys.wait(key, claim)

    async def _claim(
        self, stream: Stream, start: tuple[int | None, int | None], *, after_seconds: float | None = None
    ) -> bool:
        """Take the lease, and begin to read; return false if another stream keeps it."""
        id, cursor = stream.id, None
        # One after the other: the last claimant is to be the registered stream, in this process too.
        async with self._claiming.setdefault(id, asyncio.Lock()):
            await self._reader.open(stream)
            try:
                own = self._reader.channel(stream)
                cursor = await self._leases.claim(stream, own, start, after_seconds=after_seconds)
            finally:
                if cursor is None:
                    await self._reader.close(stream)
            if cursor is None:
                return False
            held, self._streams[id] = self._streams.get(id), stream
            stream.start(cursor)
            if held is not None:
                self._retire(held, CloseReason.SUPERSEDED)
            return True

    def _new_stream(self, id: str, controller: StreamController) -> Stream:
        # The holder is a fencing token, after the instance's name for `tmcp-serverless sessions`.
        return Stream(id, f"{self._instance} {secrets.token_hex(12)}", controller, self._reader)

    @cached_property
    def _instance(self) -> str:
        return instance_name()

    @cached_property
    def events(self) -> PostgresEventTopic:
        """The topic of events in the same tables, over the same connections."""
        return PostgresEventTopic(self._statements, self._mailboxes, self._reader, self._streams)

    async def release(self, id: str, controller: StreamController | None = None) -> None:
        """End this controller's stream, or without one any holder's; its cursor stays for the next one."""
        key = self._key(id)
        if controller is None:
            await self._statements.fetchrow("interrupt", key, idempotent=True)
            self._standbys.wake(key)
            return
        stream = self._streams.get(key)
        if stream is not None and stream.pump.controller is controller:
            await self._release(stream)

    async def _release(self, stream: Stream) -> None:
        if self._streams.get(stream.id) is not stream:
            return
        del self._streams[stream.id]
        if stream.unreachable:
            await self._release_unreachable(stream)
            return
        try:
            await stream.pump.stop()
            await self._leases.give_back(stream)
        finally:
            self._standbys.wake(stream.id)
            await self._reader.close(stream)

    async def _release_unreachable(self, stream: Stream) -> None:
        """Release a stream without a statement: that would only keep its client waiting.

        Its lease has expired. It holds the stream's cursor, unless a read is not known to have reached us.
        """
        self._reader.forget(stream)
        await stream.pump.stop()
        if stream.lease_is_ahead:
            self._leases.give_back_later(stream)

    async def delete(self, id: str) -> None:
        """End the session's streams on all instances, and delete its messages."""
        refuse_reserved_id(id)
        key = self._key(id)
        await self._mailboxes.delete(key)
        ended = [each for each in self._streams if each == key or each.startswith(f"{key}/")]
        streams = [self._streams.pop(each) for each in ended]
        for stream in streams:
            self._retire(stream, CloseReason.DELETED)
        self._standbys.wake(key)
        if streams:
            await self._reader.close(*streams)

    async def has(self, id: str) -> bool:
        """Return true if a fresh lease exists."""
        row = await self._statements.fetchrow("has", self._key(id), self._lease_seconds, idempotent=True)
        return bool(row and row[0])

    async def count_open(self, *, at_most: int, besides: str = "") -> int:
        """Return the number of fresh leases of sessions and listen streams in the namespace."""
        low, high = self._statements.namespace.bounds
        listen = self._key(LISTEN_LEASES)
        row = await self._statements.fetchrow(
            "count_open", low, high, self._lease_seconds, self._key(besides), listen, at_most, idempotent=True
        )
        return row[0] if row else 0

    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append the message, in one statement. A committed message is delivered."""
        refuse_nul(data)
        if sessions is None:
            await self._mailboxes.broadcast(data)
            return
        keys = [self._key(id) for id in checked_session_ids(sessions)]
        if len(keys) == 1:
            await self._mailboxes.append(keys[0], data)
        elif keys:
            await self._mailboxes.append_to_all(keys, data)

    async def append(
        self,
        id: str,
        data: str,
        *,
        after: str | None = None,
        create: bool = True,
        siblings: int | None = None,
    ) -> str | None:
        """Append a message to one mailbox and return its cursor."""
        refuse_nul(data)
        if not create or siblings is not None:
            return await self._mailboxes.append_bounded(self._key(id), id, data, siblings=siblings or 0)
        if after is None:
            return await self._mailboxes.append(self._key(id), data)
        return await self._mailboxes.append_at(self._key(id), Cursor.after(after).own + 1, data)

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` stale leases, old messages and unused mailboxes each; return the number."""
        return await self._sweeper.sweep(limit)

    async def disconnect(self) -> None:
        """Close the idle connections, and the doorbell's if no stream is open."""
        await self._doorbell.rest()
        await super().disconnect()

    async def aclose(self) -> None:
        """End this process's streams, give their leases back and close the manager's own connections."""
        streams = [stream for stream in self._streams.values() if not stream.is_watch]
        for stream in self._streams.values():
            stream.pump.abort(CloseReason.SHUTDOWN)
        turns = asyncio.Semaphore(max(1, self._statements.database.size // 2))
        await asyncio.gather(*(self._release_or_leave(stream, turns) for stream in streams))
        for pump in self._retired:
            pump.cut_off()
            await pump.stop()
        await self._standbys.aclose()
        await self._leases.aclose()
        await self._doorbell.aclose()
        await super().aclose()

    async def _release_or_leave(self, stream: Stream, turns: asyncio.Semaphore) -> None:
        """Give the lease back, or leave it to expire if the database is out of reach."""
        async with turns:
            try:
                await self._release(stream)
            except StoreUnavailableError as error:
                logger.debug("the lease of %s is left to expire: %s", stream.id, error)
                for other in self._streams.values():
                    other.unreachable = True  # A few have waited long enough for the database.

    def _retire(self, stream: Stream, reason: CloseReason) -> None:
        """End a stream that its transport does not end. It may be in the middle of a read or a write."""
        stream.pump.close(reason)
        self._retired = [pump for pump in [*self._retired, stream.pump] if not pump.finished]
        self._reader.forget(stream)
