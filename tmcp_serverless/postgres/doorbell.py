"""The doorbell: one LISTEN connection per process, for as long as a stream is open.

It says «look again», never what there is to see: a ring that is lost costs one tick, not a message.

* LISTEN holds when `open` returns; asyncpg registers its callback only after that, so whoever opens reads
  rows afterwards (measured: what arrives in between is dropped).
* Every tick runs the heartbeat on this connection, so that a link that is black-holed, where nothing is ever
  reported, is found out by a statement that times out.
* When the connection is lost it is opened again and everybody is rung; when that takes longer than the lease
  lasts, the streams are told, for their leases are gone anyway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.failures import LOST_LINK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.database import Connection, Database

__all__ = ["Doorbell"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25
_NONCE_SECONDS = 2.0


class Doorbell:
    """Rings callbacks when their channel is notified, and ticks.

    Args:
        database: Where to connect.
        tick: Called with the connection every `tick_seconds`, while anybody is listening.
        gone: Called once when the database has been out of reach for `patience_seconds`.

    """

    def __init__(
        self,
        database: Database,
        *,
        tick: Callable[[Connection], Awaitable[None]],
        gone: Callable[[], None],
        tick_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._database = database
        self._tick = tick
        self._gone = gone
        self._tick_seconds = tick_seconds
        self._patience_seconds = patience_seconds
        self._rings: dict[str, set[Callable[[], None]]] = {}
        self._connection: Connection | None = None
        self._using = asyncio.Lock()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._proven = False

    async def open(self, channel: str, ring: Callable[[], None]) -> None:
        """Call `ring` whenever the channel is notified. LISTEN holds when this returns.

        Raises:
            StoreUnavailableError: The database cannot be reached.

        """
        async with self._using:
            if self._connection is None or self._connection.is_closed():
                await self._connect()
            new = channel not in self._rings
            self._rings.setdefault(channel, set()).add(ring)
            try:
                if new:
                    await self._listen(channel)
            except BaseException:
                self._forget(channel, ring)
                raise
            if self._keeper is None or self._keeper.done():
                self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self, channel: str, ring: Callable[[], None]) -> None:
        """Stop calling `ring`; with the last one the connection is closed."""
        async with self._using:
            self._forget(channel, ring)
            if not self._rings:
                await self._close()
            elif channel not in self._rings and self._connection is not None:
                try:
                    await self._connection.remove_listener(channel, self._on_notify)
                except LOST_LINK:
                    self._lost.set()

    def _forget(self, channel: str, ring: Callable[[], None]) -> None:
        rings = self._rings.get(channel)
        if rings is not None:
            rings.discard(ring)
            if not rings:
                del self._rings[channel]

    async def _connect(self) -> None:
        connection = await self._database.connect(listen=True)
        connection.add_termination_listener(self._on_termination)
        self._connection = connection
        self._lost.clear()
        if not self._proven:
            await self._prove(connection)
        for channel in self._rings:
            await self._listen(channel)

    async def _listen(self, channel: str) -> None:
        assert self._connection is not None  # noqa: S101 - every caller has connected
        try:
            await self._connection.add_listener(channel, self._on_notify)
        except LOST_LINK as error:
            self._lost.set()
            raise StoreUnavailableError(f"LISTEN failed: {error!r}") from error

    async def _prove(self, connection: Connection) -> None:
        """Find out whether LISTEN delivers: behind a pooler it returns success and nothing ever comes."""
        heard = asyncio.Event()
        channel = f"tmcp_nonce_{id(heard):x}_{time.monotonic_ns():x}"[:63]

        def on_nonce(*_: object) -> None:
            heard.set()

        await connection.add_listener(channel, on_nonce)
        await connection.execute("SELECT pg_notify($1, '')", channel)
        try:
            async with asyncio.timeout(_NONCE_SECONDS):
                await heard.wait()
        except TimeoutError:
            logger.warning(
                "LISTEN does not deliver here (a pooler in transaction mode?): streams look every %g s "
                "instead; set TMCP_LISTEN_URL to a direct connection to the same database",
                self._tick_seconds,
            )
        finally:
            await connection.remove_listener(channel, on_nonce)
        self._proven = True

    def _on_notify(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        for ring in self._rings.get(channel, ()):
            ring()

    def _on_termination(self, connection: object) -> None:
        if connection is self._connection:
            self._lost.set()

    async def _keep(self) -> None:
        reached_at = time.monotonic()
        while self._rings:
            try:
                async with asyncio.timeout(self._tick_seconds):
                    await self._lost.wait()
            except TimeoutError:
                pass
            if await self._beat():
                reached_at = time.monotonic()
            elif time.monotonic() - reached_at > self._patience_seconds:
                self._gone()
                return
            else:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _beat(self) -> bool:
        """Reconnect where that is due, and tick. Returns whether the database answered."""
        try:
            async with self._using, asyncio.timeout(self._tick_seconds):
                if self._lost.is_set() or self._connection is None:
                    self._terminate()
                    await self._connect()
                    self._ring_all()
                if self._connection is not None:
                    await self._tick(self._connection)
        except (*LOST_LINK, TmcpError) as error:
            logger.debug("the doorbell lost its connection: %r", error)
            self._lost.set()
            return False
        return True

    def _ring_all(self) -> None:
        for rings in self._rings.values():
            for ring in rings:
                ring()

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
