"""Heartbeats, and looking for news, for all streams of this process at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.postgres.held import OpenStreams
from tmcp_serverless.sessions import CloseReason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tmcp_serverless.postgres.database import Connection
    from tmcp_serverless.postgres.held import HeldStream
    from tmcp_serverless.postgres.tables import Tables

__all__ = ["Heartbeats"]


class Heartbeats:
    """The doorbell's callbacks for the streams of this process.

    Args:
        tables: The tables with the leases.
        streams: The streams of this process, as they are at each call.

    """

    def __init__(self, tables: Tables, streams: Mapping[str, HeldStream]) -> None:
        self._tables = tables
        self._streams = streams

    async def beat(self, connection: Connection | None) -> None:
        """Refresh every lease of this process in one statement. Ring fenced streams, and those with news."""
        open_now = OpenStreams.of(self._streams.values())
        if not open_now.all_holders:
            return
        if connection is None:
            rows = await self._tables.fetch("heartbeat", *open_now.arguments(), idempotent=True)
        else:
            rows = await connection.fetch(self._tables.sql["heartbeat"], *open_now.arguments())
        self._ring(open_now.all_holders - {row[0] for row in rows})

    async def look(self) -> bool:
        """Find the streams of this process with news, in one statement, and ring them."""
        open_now = OpenStreams.of(self._streams.values())
        if not open_now.all_holders:
            return False
        rows = await self._tables.fetch("news", *open_now.arguments(), idempotent=True)
        self._ring({row[0] for row in rows})
        return bool(rows)

    def give_up(self) -> None:
        """End all streams because the database is out of reach."""
        for stream in self._streams.values():
            stream.unreachable = True
            stream.pump.close(CloseReason.UNAVAILABLE)

    def _ring(self, holders: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.holder in holders:
                stream.ring_topic()
