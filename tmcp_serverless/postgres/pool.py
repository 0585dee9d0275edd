"""The connections of one event loop: idle ones, callers that wait, and connections being opened or closed.

Callers are served in turn. A connection that is put back goes to the first in line, and so does the right to
open a connection after one was lost. A newcomer never takes a connection that another caller was woken for.

A server that grants fewer connections than the pool may open makes the pool smaller for a while: the refused
caller waits at the front of the line for an existing connection. If there is none, all callers are told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.postgres.failures import FROM_DATABASE, CrowdedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tmcp_serverless.postgres.connection import Connection

__all__ = ["ConnectionPool"]

logger = logging.getLogger(__name__)

_BUSY_SECONDS = 10.0
_CROWDED_SECONDS = 10.0
"""The time that the pool stays as small as the server has made it."""

_CLOSE_SECONDS = 1.0
_FEWEST_TO_SPARE = 2
_PAUSES_SECONDS = (0.05, 0.2)
_WARN_AGAIN_SECONDS = 600.0


class ConnectionPool:
    """A stack of a few connections, with the last used on top.

    Args:
        open_one: Opens a connection.
        size: The most connections at once: idle, in use, being opened and being closed.
        gap_seconds: A connection that was not used for so long is not trusted any more.
        connect_seconds: The longest time that opening may take. Callers wait in line at least as long.

    """

    def __init__(
        self,
        open_one: Callable[[], Coroutine[Any, Any, Connection]],
        *,
        size: int,
        gap_seconds: float,
        connect_seconds: float = 0.0,
    ) -> None:
        self._connect_seconds = connect_seconds
        self._open_one = open_one
        self._size = size
        self._gap_seconds = gap_seconds
        # While a caller waits, no connection is idle and none may be opened.
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._opened = 0
        self._granted = size
        self._granted_until = 0.0
        self._warned_at = 0.0
        self._prepares = True
        self._adrift: set[asyncio.Task[Connection]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    def take(self) -> Connection | None:
        """Return an idle connection that can be trusted; `None` if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed():
                self._opened -= 1
            # The wall clock: the monotonic clock may stand still while the process is frozen.
            elif time.time() - connection.used_at < self._gap_seconds:
                return connection
            else:
                self._idle.append(connection)
                self.drop_idle()  # Those below it have been idle for longer.
        return None

    async def acquire(self) -> Connection:
        """Return a connection: an idle one, a new one, or the next that is put back.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: The database cannot be reached now, or all connections stayed in use.

        """
        if (connection := self.take()) is not None:
            return connection
        # The first in line may open a connection if the pool has grown again.
        opens = self._opened < self._limit()
        if opens:
            self._opened += 1
            opens = not self._hand_over(None)
        return await self._opened_or_next(opens=opens)

    async def spare(self) -> bool:
        """Close a connection to make room for one outside of the pool. The pool shrinks, and keeps one.

        Return false if the pool has none to spare.

        Raises:
            StoreUnavailableError: All connections stayed in use.

        """
        if self._opened < _FEWEST_TO_SPARE:
            return False
        connection = await self.acquire()
        self._shrink(max(1, self._opened - 1))
        await _close(connection)
        self._opened -= 1
        return True

    def put_back(self, connection: Connection, *, healthy: bool = True) -> None:
        """Give a connection to the first caller in line, or keep it. Close it if it cannot be used again."""
        if not healthy or connection.is_closed() or (connection.prepares and not self._prepares):
            self._end(connection)
            return
        connection.used_at = time.time()
        if not self._waiting or not self._hand_over(connection):
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """Close the idle connections at once."""
        while self._idle:
            self._idle.pop().terminate()
            self._opened -= 1

    def stop_preparing(self) -> None:
        """Close all connections with prepared statements: idle ones now, others when they are put back."""
        if self._prepares:
            self._prepares = False
            self.drop_idle()

    async def aclose(self) -> None:
        """Close the idle connections. More may be opened afterwards."""
        if leftover := {*self._adrift, *self._ending}:
            await asyncio.wait(leftover, timeout=_CLOSE_SECONDS)
            self._adrift.clear()
        while self._idle:
            connection = self._idle.pop()
            self._opened -= 1
            await _close(connection)

    def abandon(self) -> None:
        """Drop the idle connections of a closed event loop: the server is told, and nothing is awaited."""
        for connection in self._idle:
            # Only the last step fails, the freeing of the socket: the garbage collector does that.
            with suppress(RuntimeError):
                connection.terminate()
        self._idle.clear()

    async def _opened_or_next(self, *, opens: bool) -> Connection:
        first = False
        while True:
            if not opens and (connection := await self._next(first=first)) is not None:
                return connection
            try:
                return await self._open()
            except CrowdedError:
                # Another caller may have put a connection back while this caller was being refused.
                if (connection := self.take()) is not None:
                    return connection
                if not self._opened:
                    raise
                opens, first = False, True

    def _limit(self) -> int:
        # The wall clock: the monotonic clock may stand still while the process is frozen.
        return self._granted if time.time() < self._granted_until else self._size

    def _shrink(self, granted: int) -> None:
        if time.time() - self._warned_at > _WARN_AGAIN_SECONDS:
            self._warned_at = time.time()
            logger.warning(
                "the server grants fewer database connections now than the %d of TMCP_DATABASE_CONNECTIONS: "
                "requests wait for those that there are",
                self._size,
            )
        self._granted, self._granted_until = granted, time.time() + _CROWDED_SECONDS

    async def _next(self, *, first: bool = False) -> Connection | None:
        """Wait in line for a connection, and return it; `None` if the caller may open one."""
        future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(future)
        else:
            self._waiting.append(future)
        patience_seconds = max(_BUSY_SECONDS, self._connect_seconds)
        try:
            async with asyncio.timeout(patience_seconds):
                return await future
        except TimeoutError:
            self._pass_on(future)
            raise StoreUnavailableError(
                f"all {self._limit()} database connections of this process were busy for "
                f"{patience_seconds:.0f} s; raise TMCP_DATABASE_CONNECTIONS or lower the concurrency"
            ) from None
        except asyncio.CancelledError:
            self._pass_on(future)
            raise

    def _pass_on(self, future: asyncio.Future[Connection | None]) -> None:
        """Give up a place in line, and pass on anything that was handed over in the same moment."""
        if not future.done() or future.cancelled():
            with suppress(ValueError):
                self._waiting.remove(future)
        elif future.exception() is not None:
            return  # There was nothing to be handed over.
        elif (connection := future.result()) is not None:
            self.put_back(connection)
        else:
            self._make_room()

    def _hand_over(self, given: Connection | None) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(given)
                return True
        return False

    def _make_room(self) -> None:
        """Count one connection less: the first in line may open another."""
        if not self._hand_over(None):
            self._opened -= 1

    async def _open(self) -> Connection:
        opening = asyncio.get_running_loop().create_task(self._open_one_or_again())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The driver leaves sockets and futures behind if it is cancelled while it connects. So it goes
            # on connecting, and another caller gets the connection.
            self._adrift.add(opening)
            opening.add_done_callback(self._adopt)
            raise
        except BaseException as error:
            self._failed(error)
            raise

    async def _open_one_or_again(self) -> Connection:
        """Open a connection. Many attempts at once may crowd each other out: the last one tries again."""
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return await self._open_one()
            except CrowdedError:
                if self._opened > 1 or not self._waiting:
                    raise
                await asyncio.sleep(pause_seconds)
        return await self._open_one()

    def _failed(self, error: BaseException | None) -> None:
        """Count a connection that could not be opened, and tell or wake the callers in line."""
        if not isinstance(error, CrowdedError):
            self._make_room()
            return
        # The server would refuse the next caller in line too.
        self._opened -= 1
        if self._opened:
            self._shrink(self._opened)
            return
        while self._waiting:
            if not (future := self._waiting.popleft()).done():
                future.set_exception(error)

    def _adopt(self, opening: asyncio.Task[Connection]) -> None:
        wanted = opening in self._adrift
        self._adrift.discard(opening)
        if opening.cancelled() or opening.exception() is not None:
            self._failed(None if opening.cancelled() else opening.exception())
        else:
            self.put_back(opening.result(), healthy=wanted)

    def _end(self, connection: Connection) -> None:
        if connection.is_closed():
            connection.terminate()
            self._make_room()
            return
        # In its own task: the caller has waited long enough for a statement that is still to be cancelled.
        ending = asyncio.get_running_loop().create_task(_close(connection))
        self._ending.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        self._make_room()


async def _close(connection: Connection) -> None:
    """Close a connection, and have the server cancel its running statement: else that would go on."""
    try:
        await connection.close(timeout=_CLOSE_SECONDS)
    except FROM_DATABASE:
        connection.terminate()
