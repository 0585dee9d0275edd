"""A component's statements by name, run on tables that are known to exist."""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING

from tmcp_serverless.errors import ConfigurationError, SchemaError
from tmcp_serverless.postgres.failures import RingingError
from tmcp_serverless.postgres.identifiers import DEFAULT_NAMESPACE, Namespace, checked_schema
from tmcp_serverless.postgres.operate.privileges import lacks_for_use
from tmcp_serverless.postgres.schema import ensure
from tmcp_serverless.postgres.sql_files import load_statement, load_statements, silenced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.postgres.components import Component, NewComponent
    from tmcp_serverless.postgres.database import Connection, Database, Row

__all__ = ["PostgresManager", "Statements", "channel_name", "try_to_write"]

logger = logging.getLogger(__name__)

_WARN_AGAIN_SECONDS = 600.0


def channel_name(*scope: str) -> str:
    """Return the NOTIFY channel for an address: 45 characters for any address.

    `LISTEN` cuts a channel's name at 63 bytes and `pg_notify` refuses 64, so names are hashed. Channels
    belong to the whole database, so the hash includes the schema and name of the table.
    """
    digest = hashlib.blake2b("\0".join(scope).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
    return f"tmcp_{digest}"


async def try_to_write(connection: Connection, component: Component) -> None:
    """Write a row of each table, and roll it back.

    Raises:
        PostgresError: The database refuses a row, for any reason.

    """
    trial = connection.transaction()
    await trial.start()
    try:
        await connection.execute(load_statement(component.kind, "trial", component.tables))
    finally:
        if not connection.is_closed():
            await trial.rollback()


class Statements:
    """The statements of one component, for one namespace.

    The tables are checked before the first statement of the process, and again after a statement has failed
    for want of them.

    Args:
        database: The database with the tables.
        component: Returns the component in a schema.
        create: True to create missing tables.
        namespace: The namespace of the statements.
        schema: The schema of tables without one in their names; by default the database's.

    """

    def __init__(
        self,
        database: Database,
        component: NewComponent,
        *,
        create: bool,
        namespace: str = DEFAULT_NAMESPACE,
        schema: str | None = None,
    ) -> None:
        self.database = database
        self.namespace = Namespace(namespace)
        self._prefix = self.namespace.bounds[0]
        self.schema = None if schema is None else checked_schema(schema)
        self.component: Component = component(schema=self.schema)
        """The component. Its tables have their schema from `ready` on."""

        self.sql: Mapping[str, str] = {}
        """The statements by name, from `ready` on."""

        self._new_component = component
        self._create = create
        self._ready = False
        self._warned_at = 0.0

    async def ready(self) -> None:
        """Make sure that the tables exist in this release's version.

        Raises:
            SchemaError: They do not, and creating them was not allowed.

        """
        if not self._ready:
            if not self.sql:
                await self._locate()
            await ensure(self.database, self.component, create=self._create)
            self._ready = True

    async def _locate(self) -> None:
        schema = self.schema or await self.database.find_schema()
        self.component = component = self._new_component(schema=schema)
        self.sql = load_statements(component.kind, {**component.tables, **self.namespace.literals()})

    async def check(self) -> None:
        """Run `ready` again, regardless of its earlier results, and check that the tables can be used.

        Raises:
            SchemaError: The tables do not exist, and creating them was not allowed.
            ConfigurationError: The database cannot be used as configured, or the role may not use the tables.
            StoreUnavailableError: The database cannot be reached now, or takes no writes.

        """
        self._ready = False
        await self.ready()
        if lacking := await self.database.run(self._lacks_for_use):
            raise ConfigurationError(lacking)
        await self.database.run(self._try_to_write, idempotent=True)

    async def _lacks_for_use(self, connection: Connection) -> str | None:
        return await lacks_for_use(connection, self.component)

    async def _try_to_write(self, connection: Connection) -> None:
        await try_to_write(connection, self.component)

    def key(self, address: str) -> str:
        """Return the key of an address in the namespace."""
        return self._prefix + address

    def channel(self, key: str) -> str:
        """Return the NOTIFY channel of a key, once the tables are known."""
        return channel_name(self.component.tables["leases"], key)

    async def fetchrow(self, name: str, *args: object, idempotent: bool) -> Row | None:
        """Run a statement and return its first row. `idempotent`: running it twice does no harm."""
        if not self._ready:
            await self.ready()
        try:
            return await self.database.fetchrow(self.sql[name], *args, idempotent=idempotent)
        except RingingError as error:
            rows = await self._fetch_in_silence(name, args, error)
            return rows[0] if rows else None
        except SchemaError:
            self._ready = False
            raise

    async def fetch(self, name: str, *args: object, idempotent: bool) -> list[Row]:
        """Run a statement and return its rows. `idempotent`: running it twice does no harm."""
        if not self._ready:
            await self.ready()
        try:
            return await self.database.fetch(self.sql[name], *args, idempotent=idempotent)
        except RingingError as error:
            return await self._fetch_in_silence(name, args, error)
        except SchemaError:
            self._ready = False
            raise

    async def _fetch_in_silence(self, name: str, args: tuple[object, ...], error: RingingError) -> list[Row]:
        """Run a statement that was rolled back for its rings once more, without them.

        Streams read the stored messages when they look next: a heartbeat later at the latest.
        """
        if time.time() - self._warned_at > _WARN_AGAIN_SECONDS:
            self._warned_at = time.time()
            logger.warning(
                "messages are stored without NOTIFY, and streams read them at their next heartbeat: %s", error
            )
        statements = [statement for statement in (f"{name}_in_silence", name) if statement in self.sql]
        rows: list[Row] = []
        for statement in statements:
            silent = silenced(self.sql[statement])
            rows = await self.database.fetch(silent, *args, idempotent=False)
        return rows


class PostgresManager:
    """Base class of all managers over Postgres."""

    _statements: Statements

    @property
    def namespace(self) -> str:
        """The manager's part of the tables."""
        return self._statements.namespace.name

    _owns_database: bool
    """True if the manager opened the database itself, and closes it."""

    async def check(self) -> None:
        """Check that the database answers, takes writes, and has tables that can be used.

        Raises:
            ConfigurationError: The database cannot be used as configured, the tables are missing or older
                than this release, or the role may not use them.
            StoreUnavailableError: The database cannot be reached now, or takes no writes.

        """
        await self._statements.check()

    async def disconnect(self) -> None:
        """Close the idle connections; they are opened again when they are needed."""
        await self._statements.database.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are this manager's own."""
        if self._owns_database:
            await self._statements.database.aclose()
