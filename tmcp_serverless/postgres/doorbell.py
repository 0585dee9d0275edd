"""The doorbell: one LISTEN connection per process, for as long as a stream is open.

It says «look again», never what there is to see: a ring that is lost costs one tick, not a message.

* LISTEN holds when `open` returns; asyncpg registers its callback only after that, so whoever opens reads
  rows afterwards (measured: what arrives in between is dropped).
* Every tick runs the heartbeat on this connection, so that a link that is black-holed, where nothing is ever
  reported, is found out by a statement that times out.
* When the connection is lost it is opened again and everybody is rung; when that takes longer than the lease
  lasts, the streams are told, for their leases are gone anyway.
* Behind a pooler LISTEN returns success and nothing ever comes. Whether it delivers is tried with a nonce;
  where it does not, the doorbell is silent: it keeps no connection, and looks for news in one statement for
  all streams of the process, every 50 ms while there are some and every 2 s when there are none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.database import LISTENING_IDLE_SECONDS
from tmcp_serverless.postgres.failures import LOST_LINK, ROLLED_BACK
from tmcp_serverless.postgres.listen_probe import delivers
from tmcp_serverless.postgres.pace import Pace
from tmcp_serverless.postgres.rings import Rings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.database import Connection, Database, Row
    from tmcp_serverless.postgres.rings import Ring

__all__ = ["Doorbell", "DoorbellMode"]

DoorbellMode: TypeAlias = Literal["auto", "listen", "poll"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25
_SETTINGS = f"""\
SELECT set_config(name, value, false)
FROM (VALUES ('idle_session_timeout', '{LISTENING_IDLE_SECONDS * 1000:.0f}'),
    ('application_name', left(current_setting('application_name'), 50) || ' listen')) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL"""
"""Operators, and tests, see in pg_stat_activity which connection LISTENs. The time that it may be idle is set
at the start of it; a pooler in session mode that refuses that takes it here.
"""

_UNLISTEN_SECONDS = 2.0
_LOOK_LIMIT_SECONDS = 7.0


class Doorbell:
    """Rings callbacks when their channel is notified, and ticks.

    Args:
        database: Where to connect.
        mode: `listen`, `poll`, or `auto`: find out which of the two works.
        tick: Called every `tick_seconds` while anybody is listening, with the connection to use; with `None`
            where the doorbell keeps none.
        look: Called in between where the doorbell is silent; rings what has news, returns whether any has.
        gone: Called once when the database has been out of reach for `patience_seconds`.

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
    ) -> None:
        self._database = database
        self._tick = tick
        self._look = look
        self._gone = gone
        self._tick_seconds = tick_seconds
        self._patience_seconds = patience_seconds
        self._rings = Rings()
        self._connection: Connection | None = None
        self._using = asyncio.Lock()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._silent = mode == "poll"
        self._proven = mode != "auto"
        self._pace = Pace()
        self._ticked_at = 0.0

    async def open(self, channel: str, ring: Ring) -> None:
        """Call `ring` whenever the channel is notified. LISTEN holds when this returns.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        async with self._using:
            if not self._silent and not self._is_connected():
                self._terminate()
                await self._connect()
                self._rings.ring_all()
            new = self._rings.add(channel, ring)
            self._pace.hurry()
            try:
                if self._silent:
                    self._lost.set()  # Wakes the keeper: somebody new wants to know soon.
                elif new:
                    await self._listen(channel)
            except BaseException:
                self._rings.forget(channel, ring)
                if not self._rings:
                    self._terminate()
                raise
            if self._keeper is None or self._keeper.done():
                self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def forget(self, *doors: tuple[str, Ring]) -> None:
        """Stop calling these rings, where others have taken their place."""
        for channel, ring in doors:
            self._rings.forget(channel, ring)

    async def close(self, *doors: tuple[str, Ring]) -> None:
        """Stop calling these rings, each of its channel; with the last one the connection is closed."""
        self.forget(*doors)
        async with self._using:
            if not self._rings:
                await self._close()
                return
            for channel in {channel for channel, _ in doors}:
                if channel not in self._rings:
                    await self._unlisten(channel)

    @property
    def is_idle(self) -> bool:
        """Whether there is a connection that LISTENs, and nothing runs on it."""
        return not self._using.locked() and self._is_connected()

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        """Run a statement on the connection that LISTENs, which is idle, and return its first row.

        That connection has just rung, so its server process is awake, and no other has to be woken: 4 to
        10 µs less. Returns `None` where the statement found nothing, or failed: the caller has another way.
        """
        async with self._using:
            try:
                return await self._connection.fetchrow_prepared(sql, *args) if self._connection else None
            except LOST_LINK as error:
                logger.debug("the doorbell lost its connection: %r", error)
                self._lost.set()
            except asyncpg.PostgresError as error:
                logger.debug("a statement failed on the doorbell's connection: %r", error)
        return None

    def _is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed() and not self._lost.is_set()

    async def _connect(self) -> None:
        connection = await self._database.connect(listen=True)
        connection.add_termination_listener(self._on_termination)
        self._connection = connection
        self._lost.clear()
        try:
            await self._make_ready(connection)
        except LOST_LINK as error:
            self._terminate()
            raise StoreUnavailableError(f"the connection that LISTENs was lost: {error!r}") from error
        except BaseException:
            # Also one who was cancelled here: nobody may find a connection that nothing was tried on.
            self._terminate()
            raise

    async def _make_ready(self, connection: Connection) -> None:
        if not self._proven:
            self._silent = not await delivers(self._database, connection)
            self._proven = True
        if self._silent:
            self._terminate()
            return
        await connection.execute(_SETTINGS)
        await self._listen(*self._rings)

    async def _listen(self, *channels: str) -> None:
        assert self._connection is not None  # noqa: S101 - every caller has connected
        try:
            async with asyncio.timeout(self._tick_seconds):
                await self._connection.listen(channels, self._on_notify)
        except LOST_LINK as error:
            self._lost.set()
            raise StoreUnavailableError(f"LISTEN failed: {error!r}") from error

    async def _unlisten(self, channel: str) -> None:
        if self._connection is not None:
            try:
                async with asyncio.timeout(_UNLISTEN_SECONDS):
                    await self._connection.unlisten(channel)
            except LOST_LINK:
                self._lost.set()

    def _on_notify(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._rings.ring(channel)

    def _on_termination(self, connection: object) -> None:
        if connection is self._connection:
            self._lost.set()

    async def _keep(self) -> None:
        reached_at = time.monotonic()
        while await self._is_wanted():
            await self._pause()
            reached = await (self._poll() if self._silent else self._beat())
            if reached:
                reached_at = time.monotonic()
            elif time.monotonic() - reached_at > self._patience_seconds:
                self._gone()
                return
            else:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _is_wanted(self) -> bool:
        if not self._rings:
            # Who was last has not closed the connection: a task that is cancelled may not come to that.
            async with self._using:
                if not self._rings:
                    self._terminate()
                    self._keeper = None
        return self._keeper is not None

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._pace.seconds if self._silent else self._tick_seconds):
                await self._lost.wait()
        except TimeoutError:
            pass

    async def _poll(self) -> bool:
        """Look for news, or tick where that is due. Returns whether the database answered."""
        self._lost.clear()
        try:
            # Longer than a statement may take: one that finds its link dead has to say so. Where it is cut
            # off instead, the other idle connections are tried one after the other, which are as dead.
            async with asyncio.timeout(_LOOK_LIMIT_SECONDS):
                await self._tick_or_look()
        except (TimeoutError, asyncpg.PostgresError, TmcpError) as error:
            logger.debug("the doorbell could not look: %r", error)
            return False
        return True

    async def _tick_or_look(self) -> None:
        if time.monotonic() - self._ticked_at >= self._tick_seconds:
            await self._tick(None)
            self._ticked_at = time.monotonic()
        else:
            self._pace.found(await self._look())

    async def _beat(self) -> bool:
        """Reconnect where that is due, and tick. Returns whether the database answered."""
        try:
            async with self._using:
                if self._lost.is_set() or self._connection is None:
                    self._terminate()
                    async with asyncio.timeout(self._patience_seconds):
                        await self._connect()
                    self._rings.ring_all()
                if self._connection is not None:
                    async with asyncio.timeout(self._tick_seconds):
                        await self._tick(self._connection)
        except ROLLED_BACK as error:
            logger.debug("a heartbeat was rolled back for another's sake: %r", error)
        except (*LOST_LINK, asyncpg.PostgresError, TmcpError) as error:
            logger.debug("the doorbell lost its connection: %r", error)
            self._lost.set()
            return False
        return True

    def _terminate(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            if self._keeper is not asyncio.current_task():
                await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                await connection.close(timeout=1)
            except LOST_LINK:
                connection.terminate()
