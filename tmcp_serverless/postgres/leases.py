"""Leases of sessions' streams: claiming, refreshing, waiting for one, and giving it back."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.sessions import Cursor, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping

    from tmcp_serverless.postgres.database import Connection
    from tmcp_serverless.postgres.statements import Statements
    from tmcp_serverless.postgres.stream import Stream

__all__ = ["ANY_AGE", "Heartbeats", "Leases", "Standbys"]

logger = logging.getLogger(__name__)

ANY_AGE = -86_400.0
"""As `after_seconds` of a claim: every lease counts as old enough."""

_UNDO_SECONDS = 1.0
"""A caller that is cancelled while it claims waits this long for the undoing. The claim is undone anyway."""

_CLOSE_SECONDS = 2.0


class Leases:
    """The leases of this process's streams."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._kept: set[asyncio.Task[Any]] = set()
        self._left: list[Stream] = []

    async def claim(
        self,
        stream: Stream,
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
            self._statements.fetchrow(
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

    async def give_back(self, stream: Stream) -> None:
        """End the lease, and keep the stream's cursor for the next one. Another holder's lease stays.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        await self._statements.fetchrow(
            "release", stream.id, stream.holder, *stream.resume_cursor, idempotent=True
        )

    def give_back_later(self, stream: Stream) -> None:
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

    async def _undo(self, claiming: asyncio.Task[Any], stream: Stream) -> None:
        await asyncio.wait({claiming})
        # If its reply was lost, the claim may have been committed too.
        failure = None if claiming.cancelled() else claiming.exception()
        if failure is None or isinstance(failure, StoreUnavailableError):
            try:
                await self._statements.fetchrow(
                    "release", stream.id, stream.holder, None, None, idempotent=True
                )
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


@dataclass(frozen=True, slots=True)
class _Open:
    """Streams that are open now, in the form of the statements about all of them."""

    ids: list[str]
    """The ids of the streams with a lease."""

    holders: list[str]
    """The holders of the same leases."""

    watches: list[str]
    """The holders of the watches."""

    watches_cursors: list[str]
    """The watches' cursors, as text: the driver would look up the type `bigint[]`."""

    @classmethod
    def of(cls, streams: Iterable[Stream]) -> Self:
        """Return the streams that still read."""
        reading = [stream for stream in streams if not stream.pump.finished]
        leases = [stream for stream in reading if not stream.is_watch]
        watches = [stream for stream in reading if stream.is_watch]
        return cls(
            ids=[stream.id for stream in leases],
            holders=[stream.holder for stream in leases],
            watches=[stream.holder for stream in watches],
            watches_cursors=[str(stream.cursor.own) for stream in watches],
        )

    @property
    def all_holders(self) -> set[str]:
        """The holders of all open streams."""
        return {*self.holders, *self.watches}

    def arguments(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Return the parameters of the statements `heartbeat` and `news`, from `$1` to `$4`."""
        return self.ids, self.holders, self.watches, self.watches_cursors


class Heartbeats:
    """The doorbell's callbacks for the streams of this process.

    Args:
        statements: The statements of the tables with the leases.
        streams: The streams of this process, as they are at each call.

    """

    def __init__(self, statements: Statements, streams: Mapping[str, Stream]) -> None:
        self._statements = statements
        self._streams = streams

    async def beat(self, connection: Connection | None) -> None:
        """Refresh every lease of this process in one statement. Wake fenced streams, and those with news."""
        open_now = _Open.of(self._streams.values())
        if not open_now.all_holders:
            return
        if connection is None:
            rows = await self._statements.fetch("heartbeat", *open_now.arguments(), idempotent=True)
        else:
            rows = await connection.fetch(self._statements.sql["heartbeat"], *open_now.arguments())
        self._wake(open_now.all_holders - {row[0] for row in rows})

    async def look(self) -> bool:
        """Find the streams of this process with news, in one statement, and wake them."""
        open_now = _Open.of(self._streams.values())
        if not open_now.all_holders:
            return False
        rows = await self._statements.fetch("news", *open_now.arguments(), idempotent=True)
        self._wake({row[0] for row in rows})
        return bool(rows)

    def give_up(self) -> None:
        """End all streams because the database is out of reach."""
        for stream in self._streams.values():
            stream.give_up()

    def _wake(self, holders: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.holder in holders:
                stream.wake_for_topic()


class Standbys(Turns):
    """Streams of this process that wait until another connection releases their lease.

    One statement asks for all waiting streams, as often as leases are refreshed, and none runs while no
    stream waits. A lease that this process releases wakes a stream that waits for it at once.

    Args:
        statements: The statements of the tables with the leases.
        lease_seconds: The life of a lease that is not refreshed.
        look_seconds: The time between two questions to the database.

    """

    def __init__(self, statements: Statements, *, lease_seconds: float, look_seconds: float) -> None:
        super().__init__()
        self._statements = statements
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
        for row in await self._statements.fetch("vacant", self.ids, self._lease_seconds, idempotent=True):
            self.wake(row[0])
