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
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import asyncpg

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.postgres.failures import LOST_LINK, MISSING_SCHEMA, connecting, schema_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Connection", "Database", "Row"]

Connection: TypeAlias = asyncpg.Connection
Row: TypeAlias = "Sequence[Any]"
"""A row of a result: its values by position (and, with asyncpg, by column name)."""

_FROZEN_GAP_SECONDS = 30.0
"""Without a statement for this long, idle connections are not trusted any more."""

_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 10.0


class _Stack:
    """The connections of one event loop."""

    def __init__(self, size: int) -> None:
        self.idle: deque[Connection] = deque()
        self.slots = asyncio.Semaphore(size)
        self.used_at = time.time()

    def drop_idle(self) -> None:
        while self.idle:
            self.idle.pop().terminate()


class Database:
    """A Postgres database, reached through a few connections that are opened when they are needed.

    Args:
        dsn: A libpq connection string, URL or not, with any `sslmode`.
        listen_dsn: A direct connection to the same database for LISTEN, where `dsn` goes through a pooler.
        size: How many connections at once, at the most, without the one that LISTENs.
        keep: Whether connections stay open between requests.
        server_settings: Settings that every connection starts with, such as `synchronous_commit`.
        setting: What the DSN is called in error messages.

    """

    def __init__(
        self,
        dsn: str,
        *,
        listen_dsn: str | None = None,
        size: int = 10,
        keep: bool = True,
        server_settings: dict[str, str] | None = None,
        setting: str = "TMCP_DATABASE_URL",
    ) -> None:
        self._dsn = dsn
        self._listen_dsn = listen_dsn
        self._size = size
        self._keep = keep
        self._setting = setting
        self._server_settings = {"application_name": "tmcp_serverless", **(server_settings or {})}
        self._stacks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stack] = WeakKeyDictionary()

    async def fetchrow(self, sql: str, *args: object, again: bool) -> Row | None:
        """Run a statement and return its first row. `again`: it may be run twice without harm."""

        async def work(connection: Connection) -> Any:
            return await connection.fetchrow(sql, *args)

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
        setting = "TMCP_LISTEN_URL" if listen and self._listen_dsn else self._setting
        with connecting(setting):
            return await asyncpg.connect(
                (self._listen_dsn if listen else None) or self._dsn,
                timeout=_CONNECT_SECONDS,
                command_timeout=_STATEMENT_SECONDS,
                server_settings=self._server_settings,
            )

    async def aclose(self) -> None:
        """Close the idle connections of this event loop. The database can be used again afterwards."""
        idle = self._stack().idle
        while idle:
            connection = idle.pop()
            try:
                await connection.close(timeout=1)
            except LOST_LINK:
                connection.terminate()

    def _stack(self) -> _Stack:
        loop = asyncio.get_running_loop()
        stack = self._stacks.get(loop)
        if stack is None:
            stack = self._stacks[loop] = _Stack(self._size)
        return stack

    async def _run(self, work: Callable[[Connection], Awaitable[Any]], *, again: bool) -> Any:
        stack = self._stack()
        if stack.slots.locked():
            await self._wait_for_slot(stack)
        else:
            await stack.slots.acquire()
        try:
            return await self._run_in_slot(stack, work, again=again)
        except MISSING_SCHEMA as error:
            raise schema_error(error) from error
        finally:
            stack.slots.release()

    async def _run_in_slot(
        self, stack: _Stack, work: Callable[[Connection], Awaitable[Any]], *, again: bool
    ) -> Any:
        try:
            return await self._run_once(stack, work)
        except LOST_LINK as error:
            # Where one link is gone, so are the others: they lead to the same server.
            stack.drop_idle()
            if not again:
                raise StoreUnavailableError(f"the connection to the database was lost: {error!r}") from error
        try:
            return await self._run_once(stack, work)
        except LOST_LINK as error:
            stack.drop_idle()
            raise StoreUnavailableError(f"the connection to the database was lost: {error!r}") from error

    async def _run_once(self, stack: _Stack, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        now = time.time()
        if stack.idle and now - stack.used_at > _FROZEN_GAP_SECONDS:
            stack.drop_idle()
        stack.used_at = now
        connection = stack.idle.pop() if stack.idle else await self.connect()
        healthy = False
        try:
            result = await work(connection)
            healthy = True
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            healthy = not isinstance(error, LOST_LINK)
            raise
        finally:
            if healthy and not connection.is_closed():
                stack.idle.append(connection)
            else:
                connection.terminate()
        return result

    async def _wait_for_slot(self, stack: _Stack) -> None:
        try:
            async with asyncio.timeout(_STATEMENT_SECONDS):
                await stack.slots.acquire()
        except TimeoutError:
            raise StoreUnavailableError(
                f"all {self._size} database connections of this process were busy for "
                f"{_STATEMENT_SECONDS:.0f} s; raise TMCP_DATABASE_CONNECTIONS or lower the concurrency"
            ) from None
