"""Shared secrets and spent tokens over Postgres."""

from __future__ import annotations

from functools import partial

from tmcp_serverless.closable import Store
from tmcp_serverless.postgres.components import keys_component
from tmcp_serverless.postgres.database import Database
from tmcp_serverless.postgres.identifiers import DEFAULT_NAMESPACE
from tmcp_serverless.postgres.statements import PostgresManager, Statements

__all__ = ["PostgresKeyStore"]


class PostgresKeyStore(PostgresManager, Store):
    """A `KeyStore` in Postgres, for every instance.

    Args:
        dsn: A libpq connection string with user, password and any `sslmode`; or a `Database` to share.
        table_name: The table of secrets. The name of the table of spent tokens comes from it.
        create: True to create missing tables; if false, no DDL is ever issued.
        namespace: The store's part of the tables. From other parts it only removes expired tokens.
        schema: The schema of tables without one in their names: by default the database's, or the first that
            the role may use.

    """

    def __init__(
        self,
        dsn: str | Database,
        *,
        table_name: str = "tmcp_secrets",
        create: bool = True,
        namespace: str = DEFAULT_NAMESPACE,
        schema: str | None = None,
    ) -> None:
        self._owns_database = not isinstance(dsn, Database)
        database = dsn if isinstance(dsn, Database) else Database(dsn)
        self._statements = Statements(
            database, partial(keys_component, table_name), create=create, namespace=namespace, schema=schema
        )

    async def secret(self, name: str, proposed: str) -> str:
        """Return the secret of this name: the first that was proposed by any instance."""
        key = self._statements.key(name)
        row = None
        while row is None:
            # It finds no row if another instance's proposal was committed while it ran.
            row = await self._statements.fetchrow("secret", key, proposed, idempotent=True)
        return row[0]

    async def spend(self, token: str, *, seconds: float) -> bool:
        """Record that the token was used; return false if it had been used before.

        A reply that is lost counts as a use: the statement is not run again. Each call removes a few expired
        tokens.
        """
        key = self._statements.key(token)
        return await self._statements.fetchrow("spend", key, seconds, idempotent=False) is not None
