"""The exchange that running requests talk through: one POST and its answer.

A request that finishes without emitting anything is answered as `application/json`. The first message before
the answer, or `defer_seconds` without one, turns the answer into an event stream with keep-alive comments.
A client that goes away does not stop the request (handshake era: a disconnect is not a cancellation); what it
would have been sent goes nowhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from tmcp_serverless.transports import sse
from tmcp_serverless.transports.asgi import Headers, Send, respond
from tmcp_serverless.transports.jsonrpc import dump

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Exchange"]

_KEEP_ALIVE_SECONDS = 15.0


class Exchange:
    """One POST's answer, while it is being made.

    Args:
        send: The ASGI `send` of the POST.
        headers: Headers that every answer of the session carries.
        batch: Whether the POST was a JSON-RPC batch, whose JSON answer is an array.
        defer_seconds: How long to wait for a plain JSON answer before streaming.

    """

    def __init__(self, send: Send, *, headers: Headers, batch: bool, defer_seconds: float) -> None:
        self._send = send
        self._headers = headers
        self._batch = batch
        self._defer_seconds = defer_seconds
        self._answers: list[Any] = []
        self._streaming = False
        self._finished = False
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._defer_seconds, self._on_deferred)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if error is None:
            await self._finish()

    async def emit(self, message: Any) -> None:
        """Send a message before the answer; it turns the answer into a stream."""
        await self._write(sse.event(dump(message)))

    async def answer(self, message: Any) -> None:
        """Take the answer to one request. A stream carries it at once, JSON when all are there."""
        if self._streaming:
            await self.emit(message)
        else:
            self._answers.append(message)

    async def _finish(self) -> None:
        self._finished = True
        if self._streaming:
            await self._put({"type": "http.response.body", "body": b""})
            return
        body = dump(self._answers if self._batch else self._answers[0])
        await respond(self._put, 200, body, [(b"content-type", b"application/json"), *self._headers])

    async def _write(self, frame: bytes) -> None:
        async with self._writing:
            if self._finished:
                return
            if not self._streaming:
                self._streaming = True
                headers = [*sse.SSE_HEADERS, *self._headers]
                await self._put({"type": "http.response.start", "status": 200, "headers": headers})
                # What a batch has answered already goes out first, in its order.
                frame = b"".join(sse.event(dump(answer)) for answer in self._answers) + frame
                self._answers.clear()
            await self._put({"type": "http.response.body", "body": frame, "more_body": True})

    async def _put(self, message: Any) -> None:
        try:
            await self._send(message)
        except OSError:
            # The client is gone: servers differ in whether they say so here.
            self._finished = True

    def _on_deferred(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        while True:
            await self._write(sse.KEEP_ALIVE)
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
