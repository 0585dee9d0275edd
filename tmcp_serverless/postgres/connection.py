"""A connection that keeps its statements prepared, and the schema that its role may use."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import asyncpg

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncpg.prepared_stmt import PreparedStatement

__all__ = ["Connection", "first_usable_schema"]


_FIRST_USABLE = """\
WITH path AS MATERIALIZED (
    SELECT pg_catalog.set_config('search_path', reset_val, true)
    FROM pg_catalog.pg_settings WHERE name = 'search_path'
)
SELECT pg_catalog.current_schema() FROM path"""
"""`reset_val` is the path that the server connection began with: that of the role, of the database or of
the connection string. Behind a pooler in transaction mode, the present path may be another client's. Postgres
itself parses `reset_val` and looks along it: it is set for the length of this statement.
"""


class Connection(asyncpg.Connection):
    """asyncpg's connection with `fetchrow_prepared`, for statements that are run again and again.

    asyncpg has its own cache of statements. To look it up and keep it in order, and to read clocks in
    between, takes 3 of a statement's 50 µs.
    """

    __slots__ = ("_statements", "_token", "prepares", "used_at")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._statements: dict[str, PreparedStatement] = {}
        self._token = secrets.token_hex(8)

        self.prepares = True
        """True if statements may be prepared on the connection; false behind a pooler that loses them."""

        self.used_at = 0.0
        """The time of its last return to the pool, by the wall clock."""

    async def listen(self, channels: Iterable[str], callback: Callable[..., None]) -> None:
        """LISTEN to these channels, and call the callback for their notifications.

        The channels are identifiers without quotes. It is one round trip, and the statement is not prepared:
        between the two halves of a prepared one, the server waits for its client without any limit of time,
        and the client may be frozen there.
        """
        wanted = [channel for channel in channels if channel not in self._listeners]
        if not wanted:
            return
        await self.execute("; ".join(f'LISTEN "{channel}"' for channel in wanted))
        for channel in wanted:
            self._listeners[channel] = set()
            await self.add_listener(channel, callback)

    async def unlisten(self, channels: Iterable[str]) -> None:
        """UNLISTEN these channels in one round trip, and drop their callbacks.

        On a closed connection no statement is sent.
        """
        heard = [channel for channel in channels if self._listeners.pop(channel, None) is not None]
        if heard and not self.is_closed():
            await self.execute("; ".join(f'UNLISTEN "{channel}"' for channel in heard))

    async def fetchrow_prepared(self, sql: str, *args: object) -> Any:
        """Run a statement and return its first row or `None`. The first run prepares it."""
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = await self.prepare(sql)
        try:
            return await statement.fetchrow(*args)
        except asyncpg.exceptions.InvalidCachedStatementError:
            # A table has been altered since. The statement has not been run.
            self._statements.clear()
            return await self.fetchrow(sql, *args)

    def _get_unique_id(self, prefix: str) -> str:
        """Return a statement name that no other connection uses. asyncpg calls this for every name it needs.

        asyncpg's own names count from 1 in every process. Behind a pooler in transaction mode, a statement
        may come to a server connection that another process prepared on. Our EXECUTE would then run the other
        process's statement of that name (measured: a session was deleted). An unknown name is refused.
        """
        return f"{super()._get_unique_id(prefix)}{self._token}"


async def first_usable_schema(connection: Connection) -> str:
    """Return the schema of tables without one in their names.

    Raises:
        ConfigurationError: The role may use no schema of its search path.

    """
    found: str | None = await connection.fetchval(_FIRST_USABLE)
    if found is None:
        raise ConfigurationError(
            "the role may use no schema of its search_path: GRANT it USAGE on one, or set TMCP_SCHEMA"
        )
    return found
