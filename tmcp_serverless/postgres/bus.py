"""The modern era's subscriptions over Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.postgres.namespace import DEFAULT_NAMESPACE
from tmcp_serverless.postgres.streams import PostgresStreamSessionManager
from tmcp_serverless.sessions.bus import StreamSubscriptionBus

if TYPE_CHECKING:
    from tmcp_serverless.postgres.database import Database
    from tmcp_serverless.postgres.doorbell import DoorbellMode

__all__ = ["PostgresSubscriptionBus"]


class PostgresSubscriptionBus(StreamSubscriptionBus):
    """A `SubscriptionBus` over Postgres, for `MCPServer(subscriptions=…)` or `ListenHandler(…)`.

    `create_handler` gives every server one by itself; this is for a server that is made before it, or that
    publishes from elsewhere. One row and one NOTIFY for each event, however many streams listen.

    Args:
        target: A libpq connection string, a `Database` to share, or the stream manager to publish through.
        listen_dsn: A direct connection to the same database, where the first goes through a pooler.
        table_name: The table of leases, as for `PostgresStreamSessionManager`.
        create: Whether missing tables are created.
        doorbell: How events are heard of: `listen`, `poll`, or whichever works.
        namespace: That of the handler, which says it in its log: by default it is the server's name there.
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
        super().__init__(target)

    async def aclose(self) -> None:
        """Stop watching, and close the connections where they are this bus's own."""
        await super().aclose()
        if self._own is not None:
            await self._own.aclose()
