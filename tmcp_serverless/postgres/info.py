"""Session metadata over Postgres: one round trip to store a session, and one to load it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.components import info_component
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.identifiers import DEFAULT_NAMESPACE
from tmcp_serverless.postgres.sql_files import BATCH_ROWS
from tmcp_serverless.postgres.statements import PostgresManager, Statements
from tmcp_serverless.sessions import ANONYMOUS, InfoSessionManager, Json, SessionRecord
from tmcp_serverless.sessions.info import too_many_subscriptions

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Row
    from tmcp_serverless.postgres.identifiers import TableNames

__all__ = ["PostgresInfoSessionManager"]

_SUBSCRIPTIONS_OF_EACH = 10
"""A sweep removes so many times its limit of one session's subscriptions at once."""


class PostgresInfoSessionManager(PostgresManager, InfoSessionManager):
    """Session metadata in Postgres, for every instance.

    `load` slides the idle clock in its own statement, once a thousandth of the idle time has passed since the
    last slide: most requests write nothing.

    A session exists from `initialize` to `delete`, or until it is swept. A value set for a session that does
    not exist is not kept: a request that is still running when its session is deleted leaves nothing behind.

    Args:
        dsn: A libpq connection string with user, password and any `sslmode`; or a `Database` to share.
        table_names: The names of the tables and views; those not given keep their defaults.
        create: True to create missing tables; if false, no DDL is ever issued.
        idle_seconds: An unused session is kept for this time.
        max_subscriptions: The most subscriptions of one session, give or take those added in the same moment.
        namespace: The manager's part of the tables. It sees and changes nothing in another part, except that
            it sweeps expired rows.
        schema: The schema of tables without one in their names: by default the database's, or the first that
            the role may use.

    """

    def __init__(
        self,
        dsn: str | Database,
        *,
        table_names: TableNames | None = None,
        create: bool = True,
        idle_seconds: float = 86_400,
        max_subscriptions: int = 1_000,
        namespace: str = DEFAULT_NAMESPACE,
        schema: str | None = None,
    ) -> None:
        self._owns_database = not isinstance(dsn, Database)
        database = dsn if isinstance(dsn, Database) else Database(dsn)
        self._statements = Statements(
            database, partial(info_component, table_names), create=create, namespace=namespace, schema=schema
        )
        self._idle_seconds = idle_seconds
        self._max_subscriptions = max_subscriptions

    async def initialize(self, id: str, record: SessionRecord, *, only_if_exists: bool = False) -> bool:
        """Store the session, in one statement."""
        if only_if_exists:
            return await self._of("initialize_existing", id, *_values(record), self._idle_seconds) is not None
        await self._of("initialize", id, *_values(record), self._idle_seconds)
        return True

    async def load(self, id: str, *, principal: str = ANONYMOUS) -> SessionRecord | None:
        """Return the principal's session and slide its idle clock, in one round trip."""
        row = await self._of("load", id, principal, self._idle_seconds)
        if row is None:
            return None
        version, initialized, info, capabilities, level, _ = row
        return SessionRecord(
            protocol_version=version,
            client_info=json.loads(info),
            client_capabilities=json.loads(capabilities),
            principal=principal,
            log_level=level,
            initialized=initialized,
        )

    async def update(self, id: str, *, log_level: str | None = None, initialized: bool | None = None) -> None:
        """Store the values that are given, in one statement."""
        await self._of("update", id, log_level, initialized)

    async def get_client_info(self, id: str) -> Json | None:
        """Return the client's `Implementation` object."""
        return await self._value("get_client_info", id)

    async def set_client_info(self, id: str, value: Json) -> None:
        """Store the client's `Implementation` object."""
        await self._of("set_client_info", id, json.dumps(value))

    async def get_client_capabilities(self, id: str) -> Json | None:
        """Return the client's `ClientCapabilities` object."""
        return await self._value("get_client_capabilities", id)

    async def set_client_capabilities(self, id: str, value: Json) -> None:
        """Store the client's `ClientCapabilities` object."""
        await self._of("set_client_capabilities", id, json.dumps(value))

    async def get_log_level(self, id: str) -> str | None:
        """Return the level that was set."""
        row = await self._of("get_log_level", id)
        return row[0] if row else None

    async def set_log_level(self, id: str, value: str) -> None:
        """Store the level."""
        await self.update(id, log_level=value)

    async def get_subscriptions(self, uri: str) -> set[str]:
        """Return the ids of the sessions that are subscribed and have not expired."""
        space = self._statements.namespace
        rows = await self._statements.fetch(
            "get_subscriptions", uri, self._idle_seconds, *space.bounds, idempotent=True
        )
        return {space.address(row[0]) for row in rows}

    async def add_subscription(self, id: str, uri: str) -> None:
        """Subscribe the session."""
        row = await self._of("add_subscription", id, uri, self._max_subscriptions)
        if row is not None and row[0]:
            raise too_many_subscriptions(self._max_subscriptions)

    async def remove_subscription(self, id: str, uri: str) -> None:
        """Unsubscribe the session."""
        await self._of("remove_subscription", id, uri)

    async def delete(self, id: str) -> None:
        """Delete the session: its row first, and its subscriptions in batches."""
        await self._of("delete", id)
        # A concurrent write may have been committed while that statement waited for the session's row, and
        # was not among the rows that it saw. From now on there is no session to write to.
        while (row := await self._of("delete", id)) and row[0] >= BATCH_ROWS:
            pass

    async def surplus(self, principal: str, *, keep: int) -> list[str]:
        """Return the principal's sessions that were not used for the longest time, beyond so many."""
        namespace = self._statements.namespace
        rows = await self._statements.fetch("surplus", principal, keep, *namespace.bounds, idempotent=True)
        return [namespace.address(row[0]) for row in rows]

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired sessions of any namespace, and return the number."""
        most = _SUBSCRIPTIONS_OF_EACH * limit
        row = await self._statements.fetchrow("sweep", limit, most, idempotent=True)
        removed, large = row or (0, 0)
        return removed + large * most

    async def _value(self, name: str, id: str) -> Json | None:
        row = await self._of(name, id)
        return json.loads(row[0]) if row else None

    async def _of(self, name: str, address: str, *args: object) -> Row | None:
        """Run a statement about one session of this namespace. Each of them may run twice without harm."""
        statements = self._statements
        return await statements.fetchrow(name, statements.key(address), *args, idempotent=True)


def _values(record: SessionRecord) -> tuple[object, ...]:
    return (
        json.dumps(record.client_info),
        json.dumps(record.client_capabilities),
        record.log_level,
        record.principal,
        record.protocol_version,
        record.initialized,
    )
