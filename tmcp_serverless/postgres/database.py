"""A database and this process's connections to it.

asyncpg's own pool pays for a proxy and a reset at every use: 109 µs for a query that takes 55 µs on a held
connection. Here a connection is taken off a stack and put back, nothing in between: the statements of this
package leave no state behind.

Connections are caches: they may vanish between any two requests. After a gap in which the process may have
been frozen all idle ones are dropped, and a statement that fails on a lost link is run once more on a fresh
connection where running it twice does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.postgres.connection import Connection
from tmcp_serverless.postgres.failures import (
    LOST_LINK,
    MISSING_SCHEMA,
    POOLED_STATEMENT,
    ROLLED_BACK,
    schema_error,
)
from tmcp_serverless.postgres.target import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.postgres.login import Login

__all__ = ["LISTENING_IDLE_SECONDS", "Connection", "Database", "Row"]

logger = logging.getLogger(__name__)

Row: TypeAlias = "Sequence[Any]"
"""A row of a result: its values by position (and, with asyncpg, by column name)."""

_FROZEN_GAP_SECONDS = 30.0
"""Without a statement for this long, idle connections are not trusted any more."""

_BUSY_SECONDS = 10.0

LISTENING_IDLE_SECONDS = 12.0
"""The server closes a listening connection whose heartbeats have stopped for so long (since PostgreSQL 14):
that of a frozen or vanished process.
"""


class _Stack:
    """The connections of one event loop: the idle ones, and who waits for one."""

    def __init__(self) -> None:
        self.idle: deque[Connection] = deque()
        self.used_at = 0.0
        self.opened = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def put_back(self, connection: Connection, *, healthy: bool) -> None:
        if healthy and not connection.is_closed():
            self.idle.append(connection)
        else:
            connection.terminate()
            self.opened -= 1
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
                break

    def take(self) -> Connection | None:
        """Return an idle connection that is not known to be closed; `None` where there is none."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.is_closed():
                return connection
            self.opened -= 1
        return None

    def drop_idle(self) -> None:
        while self.idle:
            self.idle.pop().terminate()
            self.opened -= 1


class Database:
    """A Postgres database, reached through a few connections that are opened when they are needed.

    Args:
        dsn: A libpq connection string, URL or not, with any `sslmode`; or nothing, where `login` says it all.
        listen_dsn: A direct connection to the same database for LISTEN, where `dsn` goes through a pooler.
        size: How many connections at once, at the most, without the one that LISTENs.
        server_settings: Settings that every connection starts with, such as `synchronous_commit`.
        setting: What the DSN is called in error messages.
        login: Fills in what the connection strings leave out, such as a password out of a secret.
        tls_ca: The path of a bundle of certificates to verify the server's with.
        dbname: The database's name, over that of the connection strings.
        idle_seconds: After how long without a statement the server itself closes a connection, whose process
            may be frozen; 0 leaves it open. Where the server or a pooler does not take
            `idle_session_timeout` at the start, nothing is set.

    """

    def __init__(
        self,
        dsn: str | None,
        *,
        listen_dsn: str | None = None,
        size: int = 10,
        server_settings: dict[str, str] | None = None,
        setting: str = "TMCP_DATABASE_URL",
        login: Login | None = None,
        tls_ca: str | None = None,
        dbname: str | None = None,
        idle_seconds: float = 60.0,
    ) -> None:
        def target(address: str | None, setting: str) -> Target:
            return Target(
                address,
                setting=setting,
                login=login,
                tls_ca=tls_ca,
                dbname=dbname,
                server_settings={"application_name": "tmcp_serverless", **(server_settings or {})},
                idle_seconds=idle_seconds,
            )

        self.target = target(dsn, setting)
        """Where connections lead."""

        self.listen_target = target(listen_dsn, "TMCP_LISTEN_URL") if listen_dsn else self.target
        """Where the connection leads that LISTENs."""

        self._size = size
        # Half of what the server waits: a connection that it is about to close is not used any more.
        self._gap = min(_FROZEN_GAP_SECONDS, idle_seconds / 2 or _FROZEN_GAP_SECONDS)
        self._stacks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stack] = WeakKeyDictionary()
        self._prepares = True

    async def fetchrow(self, sql: str, *args: object, again: bool) -> Row | None:
        """Run a statement and return its first row. `again`: it may be run twice without harm."""
        stack = self._stack()
        fresh = time.time() - stack.used_at < self._gap
        if fresh and (connection := stack.take()) is not None:
            # The way of most requests: a connection is there and works.
            try:
                row = await self._first(connection, sql, args)
            except BaseException as error:
                stack.put_back(connection, healthy=_is_healthy_after(error))
                if isinstance(error, LOST_LINK):
                    stack.drop_idle()
                    if not again:
                        raise _lost(error) from error
                if not isinstance(error, (*LOST_LINK, *MISSING_SCHEMA, *POOLED_STATEMENT, *ROLLED_BACK)):
                    raise
            else:
                stack.used_at = time.time()
                stack.put_back(connection, healthy=True)
                return row

        async def work(connection: Connection) -> Any:
            return await self._first(connection, sql, args)

        return await self._run(work, again=again)

    async def fetch(self, sql: str, *args: object, again: bool) -> list[Row]:
        """Run a statement and return its rows. `again`: it may be run twice without harm."""

        async def work(connection: Connection) -> Any:
            return await connection.fetch(sql, *args)

        return await self._run(work, again=again)

    async def script(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Run several statements on one connection."""
        return await self._run(work, again=False)

    async def connect(self, *, listen: bool = False) -> Connection:
        """Open a connection that is the caller's to close; `listen`: one that LISTEN works on."""
        cached = 100 if self._prepares else 0
        opening = asyncio.get_running_loop().create_task(
            self.listen_target.open(statement_cache_size=cached, idle_seconds=LISTENING_IDLE_SECONDS)
            if listen
            else self.target.open(statement_cache_size=cached)
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The driver leaves sockets and futures behind where it is cancelled while it connects.
            opening.add_done_callback(_terminate)
            raise

    async def aclose(self) -> None:
        """Close the idle connections of this event loop. The database can be used again afterwards."""
        stack = self._stack()
        while stack.idle:
            connection = stack.idle.pop()
            stack.opened -= 1
            try:
                await connection.close(timeout=1)
            except LOST_LINK:
                connection.terminate()

    def _first(self, connection: Connection, sql: str, args: tuple[object, ...]) -> Awaitable[Row | None]:
        return connection.first(sql, *args) if self._prepares else connection.fetchrow(sql, *args)

    def _stack(self) -> _Stack:
        loop = asyncio.get_running_loop()
        stack = self._stacks.get(loop)
        if stack is None:
            stack = self._stacks[loop] = _Stack()
        return stack

    async def _run(self, work: Callable[[Connection], Awaitable[Any]], *, again: bool) -> Any:
        stack = self._stack()
        try:
            return await self._run_once(stack, work)
        except LOST_LINK as error:
            # Where one link is gone, so are the others: they lead to the same server.
            stack.drop_idle()
            if not again:
                raise _lost(error) from error
        except POOLED_STATEMENT:
            self._stop_preparing(stack)
        except ROLLED_BACK as error:
            logger.debug("run again: %r", error)
        except MISSING_SCHEMA as error:
            raise schema_error(error) from error
        try:
            return await self._run_once(stack, work)
        except LOST_LINK as error:
            stack.drop_idle()
            raise _lost(error) from error
        except ROLLED_BACK as error:
            raise StoreUnavailableError(f"the database is too busy: {error!r}") from error

    async def _run_once(self, stack: _Stack, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        now = time.time()
        if now - stack.used_at > self._gap:
            stack.drop_idle()
        stack.used_at = now
        connection = stack.take() or await self._open(stack)
        try:
            result = await work(connection)
        except BaseException as error:
            stack.put_back(connection, healthy=_is_healthy_after(error))
            raise
        stack.put_back(connection, healthy=True)
        return result

    async def _open(self, stack: _Stack) -> Connection:
        """Return a connection that is new, or that somebody has put back in the meantime."""
        try:
            async with asyncio.timeout(_BUSY_SECONDS):
                while stack.opened >= self._size:
                    future = asyncio.get_running_loop().create_future()
                    stack.waiting.append(future)
                    await future
                    if (connection := stack.take()) is not None:
                        return connection
        except TimeoutError:
            raise StoreUnavailableError(
                f"all {self._size} database connections of this process were busy for "
                f"{_BUSY_SECONDS:.0f} s; raise TMCP_DATABASE_CONNECTIONS or lower the concurrency"
            ) from None
        stack.opened += 1
        try:
            return await self.connect()
        except BaseException:
            stack.opened -= 1
            raise

    def _stop_preparing(self, stack: _Stack) -> None:
        """Do without prepared statements: a pooler hands each statement to another server connection."""
        logger.info(
            "%s leads through a pooler in transaction mode: statements are not prepared", self.target.setting
        )
        self._prepares = False
        stack.drop_idle()


def _terminate(opening: asyncio.Task[Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()


def _lost(error: BaseException) -> StoreUnavailableError:
    return StoreUnavailableError(f"the connection to the database was lost: {error!r}")


def _is_healthy_after(error: BaseException) -> bool:
    """Return whether a connection can be used again: the server refused the statement, and nothing else."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, LOST_LINK)
