"""A database and this process's connections to it.

asyncpg's own pool pays for a proxy and a reset at every use: 109 µs for a query that takes 55 µs on a held
connection. Our pool takes a connection and puts it back, with nothing in between: the statements of this
package leave no state behind.

Connections are caches: they may vanish between any two requests. A connection is dropped if it was idle for
so long that the process may have been frozen. A statement that fails on a lost link is run once more on a
fresh connection, if running it twice does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import asyncpg

from tmcp_serverless.closable import Closable
from tmcp_serverless.postgres.connect.target import Target
from tmcp_serverless.postgres.connection import Connection, first_usable_schema
from tmcp_serverless.postgres.failures import (
    FROM_DATABASE,
    LOST_LINK,
    POOLED_STATEMENT,
    ROLLED_BACK,
    CrowdedError,
    is_healthy_after,
    raise_translated,
)
from tmcp_serverless.postgres.identifiers import checked_schema
from tmcp_serverless.postgres.pool import ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.config import Settings
    from tmcp_serverless.postgres.connect.login import Login

__all__ = ["LISTENING_IDLE_SECONDS", "Connection", "Database", "Row"]

logger = logging.getLogger(__name__)

Row: TypeAlias = "Sequence[Any]"
"""A row of a result: its values by position (and, with asyncpg, by column name)."""

_FROZEN_GAP_SECONDS = 30.0
"""A connection without a statement for this long is not trusted any more."""

LISTENING_IDLE_SECONDS = 12.0
"""The server closes a listening connection after this time without a heartbeat (since PostgreSQL 14). Its
process is frozen or has vanished.
"""


class Database(Closable):
    """A Postgres database, reached through a few connections that are opened when they are needed.

    Args:
        dsn: A libpq connection string, URL or not, with any `sslmode`; nothing if `login` gives everything.
        listen_dsn: A direct connection to the same database for LISTEN, if `dsn` goes through a pooler.
        size: The largest number of connections at once, without the one that LISTENs.
        server_settings: Settings that every connection starts with, such as `synchronous_commit`.
        setting: The DSN's name in error messages.
        login: Fills in the gaps of the connection strings, such as a password from a secret.
        tls_ca: The path of a bundle of certificates to verify the server's with.
        dbname: The database's name, over that of the connection strings.
        idle_seconds: The server itself closes a connection after this time without a statement, because
            its process may be frozen; 0 leaves it open. If the server or a pooler does not take
            `idle_session_timeout` at the start, nothing is set.
        schema: The schema of tables without one in their names; by default the first that the role may use.

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
        schema: str | None = None,
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
        """The address of the connections."""

        self.listen_target = target(listen_dsn, "TMCP_LISTEN_URL") if listen_dsn else self.target
        """The address of the connection that LISTENs."""

        self._schema = None if schema is None else checked_schema(schema)

        self.size = size
        """The largest number of connections at once."""

        # Half of the server's timeout: a connection that it is about to close is not used any more.
        self._gap_seconds = min(_FROZEN_GAP_SECONDS, idle_seconds / 2 or _FROZEN_GAP_SECONDS)
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, ConnectionPool] = WeakKeyDictionary()
        self._prepares = True

    @staticmethod
    def from_settings(settings: Settings) -> Database:
        """Return the configured database. Nothing is opened or fetched before the first statement.

        Raises:
            ConfigurationError: No database is configured, or two settings contradict each other.

        """
        from tmcp_serverless.postgres.connect.configured import database_for  # it imports this module

        return database_for(settings)

    async def fetchrow(self, sql: str, *args: object, idempotent: bool) -> Row | None:
        """Run a statement and return its first row. `idempotent`: running it twice does no harm."""

        async def work(connection: Connection) -> Any:
            return await _fetchrow(connection, sql, args)

        pool = self._pool()
        if (connection := pool.take()) is None:
            return await self._run(work, idempotent=idempotent)
        # Most requests take this path: an idle connection exists and works.
        try:
            row = await _fetchrow(connection, sql, args)
        except BaseException as error:
            pool.put_back(connection, healthy=is_healthy_after(error))
            if not isinstance(error, FROM_DATABASE):
                raise
            if not self._recover(error, pool, idempotent=idempotent):
                raise_translated(error, self.target.setting)
        else:
            pool.put_back(connection)
            return row
        return await self._run_last(pool, work)

    async def fetch(self, sql: str, *args: object, idempotent: bool) -> list[Row]:
        """Run a statement and return its rows. `idempotent`: running it twice does no harm."""

        async def work(connection: Connection) -> Any:
            return await connection.fetch(sql, *args)

        return await self._run(work, idempotent=idempotent)

    async def run(self, work: Callable[[Connection], Awaitable[Any]], *, idempotent: bool = False) -> Any:
        """Run several statements on one connection. `idempotent`: running them twice does no harm."""
        return await self._run(work, idempotent=idempotent)

    async def find_schema(self) -> str:
        """Return the schema of tables without one in their names. It is looked for once.

        Raises:
            ConfigurationError: The role may use no schema.
            StoreUnavailableError: The database cannot be reached now.

        """
        if self._schema is None:
            self._schema = await self.run(first_usable_schema)
        return self._schema

    async def check_writable(self) -> None:
        """Check that the database takes writes: after a failover the connection may lead to a standby.

        Raises:
            ConfigurationError: A setting is wrong.
            StoreUnavailableError: The database takes no writes, or cannot be reached now.

        """

        async def work(connection: Connection) -> None:
            if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
                raise asyncpg.ReadOnlySQLTransactionError("transaction_read_only is on")

        await self._run(work, idempotent=True)

    async def connect(self, *, listen: bool = False) -> Connection:
        """Open a connection for the caller to close; with `listen`, at the address for LISTEN."""
        opening = asyncio.get_running_loop().create_task(self._open_beside_the_pool(listen=listen))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The driver leaves sockets and futures behind if it is cancelled while it connects.
            opening.add_done_callback(_terminate)
            raise

    async def aclose(self) -> None:
        """Close the idle connections of this event loop. The database can be used again afterwards."""
        await self._pool().aclose()

    async def _open_beside_the_pool(self, *, listen: bool) -> Connection:
        try:
            return await self._open(listen=listen)
        except CrowdedError:
            if not await self._pool().spare():
                raise
        return await self._open(listen=listen)

    async def _open(self, *, listen: bool = False) -> Connection:
        prepares = self._prepares
        cached = 100 if prepares else 0
        if listen:
            return await self.listen_target.open(
                statement_cache_size=cached, idle_seconds=LISTENING_IDLE_SECONDS
            )
        connection = await self.target.open(statement_cache_size=cached)
        connection.prepares = prepares
        return connection

    def _pool(self) -> ConnectionPool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for ended in [each for each in self._pools if each.is_closed()]:
                # The pool's connections refer to the loop, so its entry would stay for ever.
                self._pools.pop(ended).abandon()
            pool = self._pools[loop] = ConnectionPool(
                self._open,
                size=self.size,
                gap_seconds=self._gap_seconds,
                connect_seconds=self.target.connect_seconds or 0.0,
            )
        return pool

    async def _run(self, work: Callable[[Connection], Awaitable[Any]], *, idempotent: bool) -> Any:
        pool = self._pool()
        try:
            return await _run_once(pool, work)
        except FROM_DATABASE as error:
            if not self._recover(error, pool, idempotent=idempotent):
                raise_translated(error, self.target.setting)
        return await self._run_last(pool, work)

    async def _run_last(self, pool: ConnectionPool, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Run the work after its first failure, and not again."""
        try:
            return await _run_once(pool, work)
        except FROM_DATABASE as error:
            self._recover(error, pool, idempotent=False)
            raise_translated(error, self.target.setting)

    def _recover(self, error: BaseException, pool: ConnectionPool, *, idempotent: bool) -> bool:
        """Drop what the error has shown to be useless; return true if the statement may run once more."""
        if isinstance(error, LOST_LINK):
            # If one link is gone, so are the others: they lead to the same server.
            pool.drop_idle()
            return idempotent
        if isinstance(error, POOLED_STATEMENT):
            self._stop_preparing(pool)
            return True
        if isinstance(error, ROLLED_BACK):
            logger.debug("run again: %r", error)
            return True
        return False

    def _stop_preparing(self, pool: ConnectionPool) -> None:
        """Stop preparing statements: a pooler hands each statement to another server connection."""
        if self._prepares:
            self._prepares = False
            logger.info(
                "%s leads through a pooler in transaction mode: statements are not prepared",
                self.target.setting,
            )
        pool.stop_preparing()


def _fetchrow(connection: Connection, sql: str, args: tuple[object, ...]) -> Awaitable[Row | None]:
    return (
        connection.fetchrow_prepared(sql, *args) if connection.prepares else connection.fetchrow(sql, *args)
    )


async def _run_once(pool: ConnectionPool, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    connection = await pool.acquire()
    try:
        result = await work(connection)
    except BaseException as error:
        pool.put_back(connection, healthy=is_healthy_after(error))
        raise
    pool.put_back(connection)
    return result


def _terminate(opening: asyncio.Task[Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()
