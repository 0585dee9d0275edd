"""Trial writes to a component's tables: readiness is tested by writing, not read from the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.postgres.statements import load_statement

if TYPE_CHECKING:
    from tmcp_serverless.postgres.components import Component
    from tmcp_serverless.postgres.database import Connection

__all__ = ["try_to_write"]


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
