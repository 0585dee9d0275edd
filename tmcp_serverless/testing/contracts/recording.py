"""A controller for tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.testing.contracts.common import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tmcp_serverless.sessions import CloseReason, StoredEvent

__all__ = ["RecordingController"]


class RecordingController:
    """A stream's controller that keeps its events, and fails when the contract is broken."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.start: str | None = None
        self.closed: CloseReason | None = None
        self.missing = 0
        self._changed = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        """Keep the cursor at the stream's start."""
        assert self.start is None, "opened twice"
        assert not self.events, "opened after events"
        self.start = cursor

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Keep the events."""
        assert self.closed is None, "written to after it was closed"
        self.events += events
        self._changed.set()

    async def missed(self, count: int) -> None:
        """Count the messages that expired."""
        self.missing += count
        self._changed.set()

    def close(self, reason: CloseReason) -> None:
        """Keep the reason."""
        assert self.closed is None, "closed twice"
        self.closed = reason
        self._changed.set()

    @property
    def data(self) -> list[str]:
        """The messages so far."""
        return [event.data for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, for 15 seconds at the most."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def count(self, number: int) -> list[str]:
        """Wait for so many messages, and return all that came."""
        await self.until(lambda: len(self.events) >= number)
        return self.data

    async def end(self) -> CloseReason:
        """Wait for the end, and return its reason."""
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed
