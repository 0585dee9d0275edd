"""The tables: versioned migrations in `.sql` files, applied under one advisory lock.

Every manager has its own component: a set of tables under given names. Its version is a row of the table
`tmcp_schema` in the same schema. Fifty cold instances may start at once: they look, one applies the missing
migrations, and the others find it done.

All names have their schema, for a pooler hands out connections with a `search_path` of other clients.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import asyncpg

from tmcp_serverless.errors import ConfigurationError, SchemaError
from tmcp_serverless.postgres.components import info_component, keys_component, streams_component
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.failures import ALREADY_THERE, schema_error
from tmcp_serverless.postgres.identifiers import checked_schema, quote_identifier

if TYPE_CHECKING:
    from tmcp_serverless.postgres.components import Component
    from tmcp_serverless.postgres.database import Connection
    from tmcp_serverless.postgres.identifiers import TableNames

__all__ = ["ensure", "found_and_latest", "migrate", "script"]

logger = logging.getLogger(__name__)

_MIGRATION_SECONDS = 60.0


async def _version(connection: Connection, component: Component) -> int:
    sql = f"SELECT component, version FROM {component.versions} WHERE component IN ($1, $2)"
    try:
        rows = await connection.fetch(sql, component.name, component.replaced)
    except asyncpg.UndefinedTableError:
        return 0
    versions: dict[str, int] = dict(rows)
    if component.replaced in versions:
        raise SchemaError(
            f"the tables of tmcp_serverless ({component.kind} in {component.place}) were made by a "
            "development version and cannot be brought up to date: remove its tables and functions, "
            f"{component.versions} too (the sessions in them end), and run `tmcp-serverless migrate`"
        )
    return versions.get(component.name, 0)


async def found_and_latest(connection: Connection, component: Component) -> tuple[int, int]:
    """Return the version of the tables, 0 if there are none, and the version that this release needs."""
    return await _version(connection, component), component.migrations()[-1][0]


async def ensure(database: Database, component: Component, *, create: bool) -> list[str]:
    """Bring the component's tables to this release's version, and return the applied migrations' names.

    Raises:
        SchemaError: Something is missing and `create` is false; no DDL was issued.
        ConfigurationError: The role may not make the tables, or something else has one of their names.

    """
    migrations = component.migrations()
    latest = migrations[-1][0]

    async def work(connection: Connection) -> list[str]:
        found = await _version(connection, component)
        if found >= latest:
            return []
        if not create:
            raise schema_error(f"{component.kind} in {component.place}: found version {found}, need {latest}")
        try:
            return await _apply(connection, component, migrations)
        except asyncpg.InsufficientPrivilegeError as error:
            role = getattr(connection.get_settings(), "session_authorization", "that logs in")
            raise ConfigurationError(
                f"the role {role} may not make or change the tables of tmcp_serverless in {component.place} "
                f"({error}): run `tmcp-serverless migrate` as one that may, or GRANT CREATE on it to the role"
            ) from error
        except ALREADY_THERE as error:
            raise ConfigurationError(
                f"the tables of tmcp_serverless ({component.kind}) cannot be made, for something else has a "
                f"name of theirs ({error}): move it away, or choose others with table_name and table_names"
            ) from error

    return await database.run(work)


async def _apply(
    connection: Connection, component: Component, migrations: list[tuple[int, str]]
) -> list[str]:
    # A lock belongs to the whole database. A migration of another schema need not wait for this one.
    locked = f"tmcp_serverless schema {component.versions}".encode()
    key = int.from_bytes(hashlib.sha256(locked).digest()[:8], signed=True)
    async with connection.transaction():
        # Functions are checked as they are made: names in them are looked up as in any other statement.
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        # Fifty instances may stand in line here.
        await connection.execute(
            "SELECT pg_catalog.pg_advisory_xact_lock($1::bigint)", key, timeout=_MIGRATION_SECONDS
        )
        await _make_schema(connection, component.schema)
        await connection.execute(_versions_table(component))
        found = await _version(connection, component)
        applied: list[str] = []
        for version, sql in migrations:
            if version > found:
                await connection.execute(sql, timeout=_MIGRATION_SECONDS)
                await connection.execute(
                    f"INSERT INTO {component.versions} (component, version) VALUES ($1, $2) "
                    "ON CONFLICT (component) DO UPDATE SET version = $2, applied_at = pg_catalog.now()",
                    component.name,
                    version,
                )
                applied.append(f"{component.kind}_{version:04}")
    if applied:
        logger.info("applied migrations: %s", ", ".join(applied))
    return applied


def _versions_table(component: Component) -> str:
    return f"""\
CREATE TABLE IF NOT EXISTS {component.versions} (
    component text PRIMARY KEY, version integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""


async def _make_schema(connection: Connection, schema: str | None) -> None:
    # Not IF NOT EXISTS: that needs the right to create a schema even if the schema exists.
    if schema is not None and await connection.fetchval(_HAS_NO_SCHEMA, schema):
        await connection.execute(f"CREATE SCHEMA {quote_identifier(schema)}")


_HAS_NO_SCHEMA = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)"


async def migrate(
    database: str | Database,
    *,
    table_name: str = "tmcp_sessions",
    table_names: TableNames | None = None,
    key_table_name: str = "tmcp_secrets",
    schema: str | None = None,
) -> list[str]:
    """Create or update all tables in a database, and return the applied migrations' names.

    Args:
        database: A libpq connection string, or a `Database`. Its connections are closed at the end.
        table_name: The table of leases, as for `PostgresStreamSessionManager`.
        table_names: The tables of metadata, as for `PostgresInfoSessionManager`.
        key_table_name: The table of secrets, as for `PostgresKeyStore`.
        schema: The schema of tables without one in their names: by default the database's, or the first that
            the role may use. It is made if it does not exist.

    """
    database = Database(database) if isinstance(database, str) else database
    try:
        found = await database.find_schema() if schema is None else checked_schema(schema)
        applied: list[str] = []
        for component in (
            streams_component(table_name, schema=found),
            info_component(table_names, schema=found),
            keys_component(key_table_name, schema=found),
        ):
            applied += await ensure(database, component, create=True)
        return applied
    finally:
        await database.aclose()


def script(
    *,
    table_name: str = "tmcp_sessions",
    table_names: TableNames | None = None,
    key_table_name: str = "tmcp_secrets",
    schema: str = "public",
) -> str:
    """Return the SQL that makes all tables in an empty database, versions included."""
    schema = checked_schema(schema)
    pieces: list[str] = ["BEGIN;", "SET LOCAL search_path = pg_catalog, pg_temp;"]
    if schema != "public":
        pieces.append(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(schema)};")
    for component in (
        streams_component(table_name, schema=schema),
        info_component(table_names, schema=schema),
        keys_component(key_table_name, schema=schema),
    ):
        pieces.append(_versions_table(component) + ";")
        for version, sql in component.migrations():
            pieces.append(sql.strip())
            recorded = component.name.replace("'", "''")
            pieces.append(
                f"INSERT INTO {component.versions} (component, version) VALUES ('{recorded}', {version})\n"
                f"ON CONFLICT (component) DO UPDATE SET version = {version}, applied_at = pg_catalog.now();"
            )
    pieces.append("COMMIT;")
    return "\n\n".join(pieces) + "\n"
