"""The standalone stream: a GET that reads the session's mailbox and the topic."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.transports import sse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.sessions.records import CloseReason, StoredEvent
    from tmcp_serverless.transports.asgi import Headers, Message, Request, Send

__all__ = ["StandaloneStream"]

_KEEP_ALIVE_SECONDS = 15.0
_RETRY_MILLISECONDS = 1_000


class StandaloneStream:
    """The writing end of one open GET: the controller that a `StreamSessionManager` is given.

    Args:
        send: The ASGI `send` of the GET.
        headers: Headers that every answer of the session carries.
        one_batch: Whether the stream ends after the first events, on a host that delivers answers whole.

    """

    def __init__(self, send: Send, *, headers: Headers, one_batch: bool) -> None:
        self._send = send
        self._headers = headers
        self._one_batch = one_batch
        self._writing = asyncio.Lock()
        self._open = asyncio.Event()
        self._ended = asyncio.Event()
        self._gone = False

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Send the events; waits while the client is slow."""
        await self._open.wait()
        await self._put(b"".join(sse.event(event.data.encode(), id=event.cursor) for event in events))
        if self._one_batch:
            self._ended.set()

    def close(self, reason: CloseReason) -> None:
        """End the stream: the client comes back for more, unless its session is gone."""
        del reason
        self._ended.set()

    async def serve(self, request: Request, *, seconds: float) -> None:
        """Hold the stream open until the manager closes it, the client leaves, or the time is over."""
        headers = [*sse.SSE_HEADERS, *self._headers]
        await self._send_message({"type": "http.response.start", "status": 200, "headers": headers})
        await self._put(sse.KEEP_ALIVE)
        self._open.set()
        left = asyncio.create_task(self._watch(request))
        try:
            async with asyncio.timeout(seconds):
                while not self._ended.is_set():
                    await self._keep_alive()
        except TimeoutError:
            pass
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    async def finish(self) -> None:
        """End the answer, with the hint when to come back. After the stream was released: nothing follows."""
        await self._put(sse.retry(_RETRY_MILLISECONDS))
        await self._send_message({"type": "http.response.body", "body": b""})

    async def _keep_alive(self) -> None:
        try:
            async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            await self._put(sse.KEEP_ALIVE)

    async def _watch(self, request: Request) -> None:
        await request.disconnected()
        self._gone = True
        self._ended.set()

    async def _put(self, frame: bytes) -> None:
        async with self._writing:
            await self._send_message({"type": "http.response.body", "body": frame, "more_body": True})

    async def _send_message(self, message: Message) -> None:
        if self._gone:
            return
        try:
            await self._send(message)
        except OSError:
            # The client is gone: servers differ in whether they say so here.
            self._gone = True
            self._ended.set()
