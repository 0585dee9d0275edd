"""The channels of the doorbell that ring each stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS, is_private

if TYPE_CHECKING:
    from tmcp_serverless.postgres.doorbell import Doorbell
    from tmcp_serverless.postgres.held import HeldStream
    from tmcp_serverless.postgres.rings import Door
    from tmcp_serverless.postgres.tables import Tables

__all__ = ["Doors"]


class Doors:
    """Subscribes streams to their channels.

    Args:
        doorbell: The doorbell that rings the streams.
        tables: The tables, for the names of the channels; they have to be ready.

    """

    def __init__(self, doorbell: Doorbell, tables: Tables) -> None:
        self._doorbell = doorbell
        self._tables = tables

    def own(self, stream: HeldStream) -> str:
        """Return the channel of the stream's own mailbox; for a watch, the channel of events."""
        return self._of_topic(EVENTS) if stream.watches else self._tables.channel(stream.id)

    async def open(self, stream: HeldStream) -> None:
        """Have the stream rung. LISTEN holds when this returns."""
        await self._doorbell.open(*self._of(stream))

    async def close(self, *streams: HeldStream) -> None:
        """Ring these streams no more, and UNLISTEN channels without another stream."""
        await self._doorbell.close(*(door for stream in streams for door in self._of(stream)))

    def forget(self, stream: HeldStream) -> None:
        """Ring the stream no more, without telling the server."""
        self._doorbell.forget(*self._of(stream))

    def _of_topic(self, address: str) -> str:
        return self._tables.channel(self._tables.namespace.key(address))

    def _of(self, stream: HeldStream) -> list[Door]:
        doors: list[Door] = [(self.own(stream), stream.ring)]
        if not stream.watches and not is_private(stream.id):
            doors.append((self._of_topic(BROADCAST), stream.ring_topic))
        return doors
