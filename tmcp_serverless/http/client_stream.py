"""Stream of a response's pieces to one client. The client may be gone at any moment, or may not read."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.http.asgi import Headers, Send

__all__ = ["ClientStream"]

logger = logging.getLogger(__name__)

_LAST_WRITE_SECONDS = 1.0
"""Seconds that a stream that has to end waits for its client to read."""

_PATIENCE_SECONDS = 30.0
"""Seconds that a client may read nothing while something waits to be sent to it."""

_SLOWEST_BYTES_PER_SECOND = 64 * 1024
"""Rate of the time on top of that: a server takes the next piece when most of its data is read."""


class ClientStream:
    """Sender of a response, piece by piece. Once the client is gone, all pieces go nowhere.

    A client that does not read a stream counts as gone after 30 seconds, and a while longer if it has much to
    read.

    Args:
        send: The ASGI `send` of the request.
        on_gone: Called when a write finds out that the client is gone.

    """

    def __init__(self, send: Send, *, on_gone: Callable[[], None] | None = None) -> None:
        self._send = send
        self._on_gone = on_gone
        self._most_seconds: float | None = None
        self._writing: asyncio.Timeout | None = None
        self._last_bytes = 0
        self._in_pieces = False
        self.gone = False
        """`True` if nothing that is sent arrives any more."""

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

    def hurry(self, *, seconds: float = _LAST_WRITE_SECONDS) -> None:
        """Wait for the client no longer than this from now on, also in the write that is under way."""
        self._most_seconds = seconds
        if self._writing is not None and not self._writing.expired():
            ends = asyncio.get_running_loop().time() + seconds
            self._writing.reschedule(min(ends, self._writing.when() or ends))

    async def _put(self, message: dict[str, Any]) -> None:
        if self.gone:
            # A client that was there would have slowed down a sender that never pauses.
            await asyncio.sleep(0)
            return
        self._in_pieces = self._in_pieces or message.get("more_body", False)
        try:
            if not self._in_pieces:
                # Nothing waits behind a response that goes out whole, as most do: it pays for no timer.
                await self._send(message)
                return
            async with asyncio.timeout(self._seconds_for(message)) as self._writing:
                await self._send(message)
        except TimeoutError:
            # The timeout is ours, or that of a server that gives up by itself.
            logger.info("a client is given up, for it does not read")
            self._give_up()
        except OSError:
            # Some servers say here that the client is gone, and others do not.
            self._give_up()
        except Exception as error:  # noqa: BLE001 - servers, proxies and test clients each raise their own
            # A client that is gone is no problem of the handler that sends to it.
            logger.info("a client counts as gone: its server raised %s", type(error).__qualname__)
            self._give_up()
        finally:
            self._writing = None

    def _seconds_for(self, message: dict[str, Any]) -> float:
        before, self._last_bytes = self._last_bytes, len(message.get("body", b""))
        if self._most_seconds is not None:
            return self._most_seconds
        return _PATIENCE_SECONDS + (before + self._last_bytes) / _SLOWEST_BYTES_PER_SECOND

    def _give_up(self) -> None:
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()
