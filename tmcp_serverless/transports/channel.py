"""What a running request talks through, whatever way its answer takes."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ResponseChannel"]


class ResponseChannel(Protocol):
    """The way to the client of one request: its POST's answer, or the one stream of its session."""

    @property
    def can_close(self) -> bool:
        """Whether the connection may end before the answer, for the client can come back for it."""
        ...

    async def emit(self, message: Any) -> None:
        """Send a message before the answer."""
        ...

    async def answer(self, data: bytes) -> None:
        """Take the answer, as JSON."""
        ...

    async def close_connection(self) -> None:
        """End the connection, and nothing else. Does nothing where it may not."""
        ...
