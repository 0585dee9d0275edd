"""Share of the sandboxes that streams may hold, counted in the store over all instances."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.addresses import listen_lease

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from tmcp_serverless.sessions.records import CloseReason, StoredEvent
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["StreamShare"]


class StreamShare:
    """Share of a function's sandboxes that standalone and listen streams may hold.

    An open stream holds a sandbox that could serve many short requests, and a function is not told that a
    client has left. The count is that of the store's fresh leases. Streams that open in the same moment do
    not see each other, so the share may be exceeded by a few.

    Args:
        streams: The manager with the leases.
        most: The most streams at once, on all instances together; `None`: any number.

    """

    def __init__(self, streams: StreamSessionManager, most: int | None) -> None:
        self._streams = streams
        self._most = most

    @property
    def is_bounded(self) -> bool:
        """True if there is a bound, so that streams have to be counted."""
        return self._most is not None

    async def is_taken(self, *, besides: str = "") -> bool:
        """Return true if the share is taken by streams of other sessions than `besides`.

        Raises:
            StoreUnavailableError: The store cannot be reached.

        """
        if self._most is None:
            return False
        return await self._streams.count_open(at_most=self._most, besides=besides) >= self._most

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Hold a lease for a listen stream, which has no session, so that it is counted.

        Raises:
            StoreUnavailableError: The store cannot be reached.

        """
        lease, holder = listen_lease(secrets.token_urlsafe(12)), _Holder()
        await self._streams.create(lease, holder)
        try:
            yield
        finally:
            await self._streams.release(lease, holder)
            await self._streams.delete(lease)


class _Holder:
    """Controller of a lease to which nothing is sent."""

    async def opened(self, cursor: str) -> None:
        """Ignore the cursor."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Ignore the events."""

    async def missed(self, count: int) -> None:
        """Ignore the loss."""

    def close(self, reason: CloseReason) -> None:
        """Ignore the end: the listen stream ends by itself."""
