"""The tables' schema if no setting names it: the first that the role may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from tmcp_serverless.postgres.connection import Connection

__all__ = ["first_usable_schema"]

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
