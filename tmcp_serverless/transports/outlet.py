"""The way out to one client, which may be gone at any moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.transports.asgi import Headers, Send

__all__ = ["Outlet"]


class Outlet:
    """Sends an answer piece by piece; once the client is gone, what is sent goes nowhere.

    Args:
        send: The ASGI `send` of the request.
        on_gone: Called when a write finds out that the client is gone.

    """

    def __init__(self, send: Send, *, on_gone: Callable[[], None] | None = None) -> None:
        self._send = send
        self._on_gone = on_gone
        self.gone = False
        """Whether nothing that is sent arrives any more."""

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status and the headers."""
        await self._put({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if data:
            await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        await self._put({"type": "http.response.body", "body": data})

    async def _put(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        try:
            await self._send(message)
        except OSError:
            # Servers differ in whether they say here that the client is gone.
            self.gone = True
            if self._on_gone is not None:
                self._on_gone()
