"""A component's tables in a database: its statements by name, run on tables that are known to be there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.errors import SchemaError
from tmcp_serverless.postgres.schema import ensure
from tmcp_serverless.postgres.statements import load_statements

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Database, Row
    from tmcp_serverless.postgres.schema import Component

__all__ = ["PostgresManager", "Tables"]


class Tables:
    """The statements of one component.

    The schema is looked at before the first statement of the process, and again after a statement has failed
    for want of it.
    """

    def __init__(self, database: Database, component: Component, *, create: bool) -> None:
        self.database = database
        self.component = component
        self.sql = load_statements(component.kind, component.tables)
        self._create = create
        self._ready = False

    async def ready(self) -> None:
        """Make sure that the tables are there, and of this release's version.

        Raises:
            SchemaError: They are not, and creating them was not allowed.

        """
        if not self._ready:
            await ensure(self.database, self.component, create=self._create)
            self._ready = True

    async def check(self) -> None:
        """Do what `ready` does, whatever was found before, and find out whether the database takes writes.

        Raises:
            SchemaError: The tables are not there, and creating them was not allowed.
            ConfigurationError: The database cannot be used as configured.
            StoreUnavailableError: It cannot be reached now, or takes no writes.

        """
        self._ready = False
        await self.ready()
        await self.database.check_writable()

    async def fetchrow(self, name: str, *args: object, idempotent: bool) -> Row | None:
        """Run a statement and return its first row. `idempotent`: running it twice does no harm."""
        if not self._ready:
            await self.ready()
        try:
            return await self.database.fetchrow(self.sql[name], *args, idempotent=idempotent)
        except SchemaError:
            self._ready = False
            raise

    async def fetch(self, name: str, *args: object, idempotent: bool) -> list[Row]:
        """Run a statement and return its rows. `idempotent`: running it twice does no harm."""
        if not self._ready:
            await self.ready()
        try:
            return await self.database.fetch(self.sql[name], *args, idempotent=idempotent)
        except SchemaError:
            self._ready = False
            raise


class PostgresManager:
    """What all managers over Postgres share."""

    _tables: Tables

    async def check(self) -> None:
        """Find out whether the database answers, takes writes, and has the tables of this release's version.

        Raises:
            ConfigurationError: It cannot be used as configured, or the tables are missing.
            StoreUnavailableError: It cannot be reached now, or takes no writes.

        """
        await self._tables.check()

    async def disconnect(self) -> None:
        """Close the connections that are idle; they are opened again when they are needed."""
        await self._tables.database.aclose()
