"""The doorbell: one LISTEN connection per process, for as long as a stream is open, and shortly after.

A ring means «look again», and carries no message: a ring that is lost costs one tick, not a message.

* LISTEN holds when `open` returns. asyncpg registers its callback only after that, so the caller of `open`
  reads rows afterwards (measured: a notification that arrives in between is dropped).
* Every tick runs the heartbeat on this connection. A black-holed link reports nothing, but the heartbeat on
  it times out.
* When the connection is lost, it is opened again and all streams are rung. If that takes longer than a lease
  lasts, the streams are told, for their leases are gone anyway.
* Behind a pooler LISTEN returns success and nothing ever comes. A nonce shows if it delivers. If it does not,
  the doorbell is silent: it keeps no connection, and looks for news in one statement for all streams of the
  process, every 50 ms while there is news and every 2 s when there is none.
* If the process goes on running, the connection outlasts the last stream by a moment, LISTENing to nothing:
  the next request that needs a connection does not have to connect.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.failures import LOST_LINK, ROLLED_BACK, CrowdedError
from tmcp_serverless.postgres.listener import Listener, Subscribers, close
from tmcp_serverless.postgres.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.database import Connection, Database, Row
    from tmcp_serverless.postgres.listener import Subscription

__all__ = ["Doorbell", "DoorbellMode"]

DoorbellMode: TypeAlias = Literal["auto", "listen", "poll"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25


class Doorbell:
    """Wakes subscribers when their channel is notified, and ticks.

    Args:
        database: The database to connect to.
        mode: `listen`, `poll`, or `auto` for the one that works.
        tick: Called every `tick_seconds` while a stream is listening, with the connection to use; with `None`
            if the doorbell keeps no connection.
        look: Called in between if the doorbell is silent. Wakes the streams with news; true if there are any.
        gone: Called when the database has been out of reach for `patience_seconds`, and each time that long.
        linger_seconds: The connection is kept for this time after the last stream.

    """

    def __init__(
        self,
        database: Database,
        *,
        mode: DoorbellMode,
        tick: Callable[[Connection | None], Awaitable[None]],
        look: Callable[[], Awaitable[bool]],
        gone: Callable[[], None],
        tick_seconds: float,
        patience_seconds: float,
        linger_seconds: float = 0.0,
    ) -> None:
        self._tick = tick
        self._gone = gone
        self._tick_seconds = tick_seconds
        self._patience_seconds = patience_seconds
        self._linger_seconds = linger_seconds
        self._subscribers = Subscribers()
        self._wake = asyncio.Event()
        self._listener = Listener(
            database, heard=self._subscribers.wake, lost=self._wake.set, limit_seconds=tick_seconds
        )
        self._using = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._silent = mode == "poll"
        self._may_poll = mode == "auto"
        self._is_crowded_out = False
        self._proven = mode != "auto"
        self._polling = Polling(tick=tick, look=look, tick_seconds=tick_seconds)
        self._lingers_until = 0.0

    async def open(self, *subscriptions: Subscription) -> None:
        """Call these subscribers whenever their channels are notified. LISTEN holds when this returns.

        It is one statement for any number of channels.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        async with self._using:
            if self._is_crowded_out and not self._subscribers:
                self._silent = self._is_crowded_out = False
            if not self._silent and not self._is_usable():
                await self._connect()
            new = [
                channel for channel, subscriber in subscriptions if self._subscribers.add(channel, subscriber)
            ]
            try:
                if self._silent:
                    self._polling.interval.hurry()
                    self._wake.set()  # The new stream wants to know soon.
                elif new:
                    await self._listen(*new)
            except BaseException:
                self.forget(*subscriptions)
                if not self._subscribers:
                    self._listener.terminate()
                raise
            if not self._is_kept():
                # In its own context: the task outlives the request that happens to be the first.
                self._keeper = asyncio.get_running_loop().create_task(
                    self._keep(), context=contextvars.Context()
                )

    def forget(self, *subscriptions: Subscription) -> None:
        """Stop calling these subscribers: others have taken their place, or the server cannot be told."""
        for channel, subscriber in subscriptions:
            self._subscribers.forget(channel, subscriber)

    async def close(self, *subscriptions: Subscription) -> None:
        """Stop calling these subscribers. After the last one the connection is closed."""
        self.forget(*subscriptions)
        async with self._using:
            if not self._subscribers and not self._may_linger():
                await self._end()
                return
            await self._listener.unlisten(
                *{channel for channel, _ in subscriptions if channel not in self._subscribers}
            )
            if not self._subscribers:
                self._lingers_until = time.time() + self._linger_seconds
                self._wake.set()

    async def rest(self) -> None:
        """Close the connection at once if no stream is listening."""
        async with self._using:
            if not self._subscribers:
                await self._end()

    async def aclose(self) -> None:
        """Stop calling all subscribers, and close the connection."""
        self._subscribers.clear()
        await self.rest()

    @property
    def is_idle(self) -> bool:
        """True if there is a connection that LISTENs, and nothing runs on it."""
        return not self._using.locked() and self._listener.is_connected

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        """Run a statement on the idle connection that LISTENs, and return its first row.

        That connection has just rung, so its server process is awake, and no other has to be woken: 4 to
        10 µs less. Returns `None` if the statement found nothing, or failed: the caller has another way.
        """
        async with self._using:
            return await self._listener.fetchrow(sql, *args)

    def _is_usable(self) -> bool:
        """Return true if there is a connection, and LISTEN may be tried on it."""
        # The wall clock: the process may have been frozen since the last stream.
        return self._listener.is_connected and (bool(self._subscribers) or time.time() < self._lingers_until)

    def _may_linger(self) -> bool:
        return self._linger_seconds > 0 and self._is_kept() and self._listener.is_connected

    def _is_kept(self) -> bool:
        return self._keeper is not None and not self._keeper.done()

    async def _connect(self) -> None:
        try:
            delivers = await self._listener.open(self._subscribers, on_trial=not self._proven)
        except CrowdedError as error:
            if not self._may_poll:
                raise
            # Until all streams that are open now have ended.
            logger.warning("streams poll for the time being: %s", error)
            self._silent = self._is_crowded_out = True
        else:
            self._silent, self._proven = not delivers, True
        self._subscribers.wake_all()

    async def _listen(self, *channels: str) -> None:
        try:
            await self._listener.listen(*channels)
        except StoreUnavailableError as error:
            # The connection was lost while nothing was sent on it, and no error has shown that.
            logger.debug("the doorbell connects anew: %s", error)
            await self._connect()

    async def _keep(self) -> None:
        reached_at = time.monotonic()
        while await self._is_wanted():
            await self._pause()
            if not self._subscribers:
                continue
            reached = await (self._polling.poll() if self._silent else self._beat())
            if reached:
                reached_at = time.monotonic()
                continue
            if time.monotonic() - reached_at > self._patience_seconds:
                self._gone()
                reached_at = time.monotonic()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _is_wanted(self) -> bool:
        if self._subscribers:
            return True
        async with self._using:
            if self._subscribers or self._is_usable():
                return True
            # The last stream's task may have been cancelled before it closed the connection.
            self._listener.terminate()
            self._keeper = None
        return False

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._pause_seconds()):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        if self._silent:
            await asyncio.sleep(self._polling.interval.least_seconds)

    def _pause_seconds(self) -> float:
        if not self._subscribers:
            return max(0.0, self._lingers_until - time.time())
        if self._silent:
            return self._polling.interval.seconds
        return self._tick_seconds if self._listener.is_connected else 0.0

    async def _beat(self) -> bool:
        """Reconnect if that is due, and tick. Return true if the database answered."""
        try:
            async with self._using:
                if not self._listener.is_connected:
                    async with asyncio.timeout(self._patience_seconds):
                        await self._connect()
                if self._listener.connection is not None:
                    async with asyncio.timeout(self._tick_seconds):
                        await self._tick(self._listener.connection)
        except ROLLED_BACK as error:
            logger.debug("a heartbeat was rolled back for another's sake: %r", error)
        except (*LOST_LINK, asyncpg.PostgresError, TmcpError) as error:
            logger.debug("the doorbell lost its connection: %r", error)
            self._listener.lose()
            return False
        return True

    async def _end(self) -> None:
        # Both are dropped before the first `await`: the caller may be cancelled there.
        keeper, self._keeper = self._keeper, None
        connection = self._listener.detach()
        try:
            if keeper is not None:
                keeper.cancel()
                if keeper is not asyncio.current_task():
                    await asyncio.gather(keeper, return_exceptions=True)
        finally:
            await close(connection)
