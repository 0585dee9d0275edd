"""Contract for a running request's messages to its client, over any transport."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["ResponseChannel"]


class ResponseChannel(Protocol):
    """One request's way to its client: its POST's response, or the one stream of its session."""

    @property
    def can_close(self) -> bool:
        """`True` if the connection may end before the answer, because the client can come back for it."""
        ...

    async def emit(self, message: Any) -> None:
        """Send a message before the answer."""
        ...

    async def answer(self, data: bytes) -> None:
        """Take the answer, as JSON."""
        ...

    async def close_connection(self) -> None:
        """End the connection, and nothing else. Do nothing if the connection may not end."""
        ...
