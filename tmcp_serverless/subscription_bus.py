"""The modern era's subscriptions over Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.modern.bus import StreamSubscriptionBus
from tmcp_serverless.postgres.identifiers import DEFAULT_NAMESPACE
from tmcp_serverless.postgres.streams import PostgresStreamSessionManager

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Database
    from tmcp_serverless.postgres.doorbell import DoorbellMode

__all__ = ["PostgresSubscriptionBus"]


class PostgresSubscriptionBus(StreamSubscriptionBus):
    """A `SubscriptionBus` over Postgres, for `MCPServer(subscriptions=…)` or `ListenHandler(…)`.

    `create_handler` gives every server a bus by itself. This class is for a server that is made before it, or
    that publishes from elsewhere. Each event costs one row and one NOTIFY, for any number of streams.

    Args:
        target: A libpq connection string, a `Database` to share, or the stream manager to publish through.
        listen_dsn: A direct connection to the same database, for a `target` behind a pooler.
        table_name: The table of leases, as for `PostgresStreamSessionManager`.
        create: True to create missing tables.
        doorbell: The way to learn of events: `listen`, `poll`, or `auto` for the one that works.
        namespace: The handler's namespace, as its log shows it. A handler's default is the server's name.
        schema: The schema of the tables, as for `PostgresStreamSessionManager`.

    """

    def __init__(
        self,
        target: str | Database | PostgresStreamSessionManager,
        *,
        listen_dsn: str | None = None,
        table_name: str = "tmcp_sessions",
        create: bool = True,
        doorbell: DoorbellMode = "auto",
        namespace: str = DEFAULT_NAMESPACE,
        schema: str | None = None,
    ) -> None:
        self._own: PostgresStreamSessionManager | None = None
        if not isinstance(target, PostgresStreamSessionManager):
            target = self._own = PostgresStreamSessionManager(
                target,
                listen_dsn=listen_dsn,
                table_name=table_name,
                create=create,
                doorbell=doorbell,
                namespace=namespace,
                schema=schema,
            )
        super().__init__(target.events)

    async def aclose(self) -> None:
        """Stop watching, and close the connections if they are this bus's own."""
        await super().aclose()
        if self._own is not None:
            await self._own.aclose()
