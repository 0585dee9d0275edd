"""Response to one POST, for the messages and answers of its running requests.

A request that finishes without emitting anything is answered as `application/json`. The first message before
the answer, or a request that lasts, turns the response into an event stream with keep-alive comments.

With a journal the stream outlives its connection. Each event is committed with an id before it is written. If
a client's connection ends, for any reason, the client resumes on any instance. Without a journal, messages to
a client that went away are lost. Either way the request runs on: in the handshake era a disconnect is not a
cancellation.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, Self

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.http import ClientStream, dump, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tmcp_serverless.handshake.journal import Journal
    from tmcp_serverless.http import Headers, Send

__all__ = ["PostResponse", "ResponseWriter", "close_connections"]

logger = logging.getLogger(__name__)

_LAST_WORD_SECONDS = 2.0
"""Seconds in which an answer that could not be stored is tried again while the host is stopping."""

_DRAIN_SECONDS = 1.0
"""Seconds that a stream's connection may take to end: a client that does not read delays nothing."""

_STOPPED_SECONDS = 0.2
"""Seconds that a client may take to read when the host is stopping: a function has half a second left."""


class ResponseWriter(Protocol):
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

    def keep_alive(self, *, after_seconds: float, until_seconds: float) -> None:
        """Keep the client waiting for the answer. Repeated calls change nothing."""
        ...


class PostResponse:
    """One POST's response, while it is being made. It is entered while the requests run.

    Args:
        send: The ASGI `send` of the POST.
        headers: Headers that every response of the session carries.
        batch: `True` if the POST was a JSON-RPC batch. Its JSON response is an array.
        new_journal: Returns the journal that keeps the stream, so that it can be resumed; `None`: it cannot.

    """

    def __init__(
        self, send: Send, *, headers: Headers, batch: bool, new_journal: Callable[[], Journal] | None
    ) -> None:
        self._client = ClientStream(send)
        self._headers = headers
        self._batch = batch
        self._new_journal = new_journal
        self._journal: Journal | None = None
        self._queue: deque[tuple[bytes, bool]] = deque()
        """Messages that have not been written yet, in the order of the calls; `True` marks an answer."""

        self._queued = 0
        self._written = 0
        self._streaming = False
        self._has_head = False
        self._is_primed = False
        self._answered = False
        self._finished = False
        self._writing = asyncio.Lock()
        self._keeping_alive: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeping_alive is not None:
            self._keeping_alive.cancel()
            await asyncio.gather(self._keeping_alive, return_exceptions=True)

    @property
    def can_close(self) -> bool:
        """`True` if the connection may end before the answer, because the client can resume."""
        return self._new_journal is not None

    async def emit(self, message: Any) -> None:
        """Send a message before the answer. It turns the response into a stream."""
        if self._finished or (self._answered and not self._batch):
            logger.debug("dropped a message: its request has been answered")
            return
        # Queued before the first `await`, so that an answer that follows does not overtake it.
        number = self._enqueue(dump(message), last=False)
        async with self._writing:
            await self._write_queue(up_to=number)

    async def answer(self, data: bytes) -> None:
        """Take the answer to one request, as JSON. A stream carries it at once, a plain response last."""
        self._answered = True
        number = self._enqueue(data, last=True)
        if self._streaming:
            async with self._writing:
                await self._write_queue(up_to=number)

    async def finish(self) -> None:
        """End the POST's response. Messages after this come too late."""
        self._finished = True
        if self._streaming:
            async with self._writing:
                await self._write_queue()
                await self._client.end()
            if self._journal is not None:
                await self._journal.settle()
            return
        answers = [data for data, _ in self._queue]
        self._queue.clear()  # The response is part of a reference cycle, and long answers would wait for it.
        body = b"[" + b",".join(answers) + b"]" if self._batch else answers[0]
        await self._client.start(200, [(b"content-type", b"application/json"), *self._headers])
        await self._client.end(body)

    async def abandon(self, data: bytes) -> None:
        """Take the answer to an unfinished request, for its client or for a client that resumes the stream.

        If the request was answered after all, that answer stands. It may have been stopped on its way to the
        store.
        """
        self._client.hurry(seconds=_STOPPED_SECONDS)
        if self._journal is None:
            await self._abandon_connection(data)
            return
        async with self._writing:
            if not self._answered:
                self._enqueue(data, last=True)
                await self._write_queue()
                return
            await self._write_queue()
            await self._journal.settle(seconds=_LAST_WORD_SECONDS)

    async def _abandon_connection(self, data: bytes) -> None:
        """Answer while the connection is there: nothing is kept."""
        if self._finished:
            return
        if not self._answered:
            await self.answer(data)
        await self.finish()

    async def close_connection(self, *, unless_waiting: bool = False) -> None:
        """End the connection, not the stream: the client resumes it. Do nothing if the client could not.

        A client that does not read is given up. It finds all later messages when it resumes.

        `unless_waiting`: leave a response alone that has not begun to stream, because it may still be sent
        whole.
        """
        if self._journal is not None and self._journal.resumable:
            self._client.hurry()
        async with self._writing:
            if self._new_journal is None or self._finished or self._client.gone:
                return
            if unless_waiting and not self._streaming:
                return
            await self._start()
            if self._journal is not None and self._journal.resumable:
                await self._end_connection(self._journal)

    def keep_alive(self, *, after_seconds: float, until_seconds: float) -> None:
        """Turn the response into a stream after a while, and keep it open until its connection has to end.

        The connection stays open for `until_seconds` from then on, if it may end at all.
        """
        if self._keeping_alive is None:
            self._keeping_alive = asyncio.create_task(self._keep_alive(after_seconds, until_seconds))

    async def _keep_alive(self, after_seconds: float, until_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        ends = asyncio.get_running_loop().time() + until_seconds
        if not self._streaming:
            async with self._writing:
                if self._finished:
                    return
                await self._write_queue()
        try:
            async with asyncio.timeout_at(ends if self.can_close else None):
                await self._keep_writing()
        except TimeoutError:
            await self.close_connection()

    async def _keep_writing(self) -> None:
        while True:
            async with self._writing:
                if self._finished:
                    return
                await self._client.write(sse.KEEP_ALIVE)
            await asyncio.sleep(sse.KEEP_ALIVE_SECONDS)

    def _enqueue(self, data: bytes, *, last: bool) -> int:
        self._queue.append((data, last))
        self._queued += 1
        return self._queued

    async def _start(self) -> None:
        """Begin the stream, or finish beginning it: a sender may be cancelled, for example by a timeout."""
        self._streaming = True
        if not self._has_head:
            await self._client.start(200, [*sse.SSE_HEADERS, *self._headers])
            self._has_head = True
        if not self._is_primed:
            if self._new_journal is not None:
                self._journal = self._new_journal()
                await self._client.write(await self._journal.prime())
            self._is_primed = True

    async def _write_queue(self, *, up_to: float = math.inf) -> None:
        """Write the queued messages, in their order; `up_to`: the number of the last message."""
        await self._start()
        while self._queue and self._written < up_to:
            data, last = self._queue[0]
            if last and self._journal is None:
                # If the write is cancelled, the answer goes out again: its client waits for it.
                await self._write(data, last=last)
                self._queue.popleft()
                self._written += 1
            else:
                self._queue.popleft()
                self._written += 1
                # A journal has the message before the first `await`. If it is cancelled, the message is here
                # or there.
                await self._write(data, last=last)

    async def _write(self, data: bytes, *, last: bool) -> None:
        if self._journal is None:
            await self._client.write(sse.event(data))
            return
        try:
            frames = await self._journal.record(data, last=last)
        except StoreUnavailableError as error:
            logger.warning("a stream's connection is closed, for its events cannot be stored: %s", error)
            await self._end_connection(self._journal)
        else:
            await self._client.write(frames)

    async def _end_connection(self, journal: Journal) -> None:
        await self._client.end(journal.retry())
        self._client.gone = True


async def close_connections(responses: Iterable[PostResponse]) -> None:
    """End the connections of the streams that can be continued elsewhere."""
    closing = [_close_in_time(response) for response in responses]
    for outcome in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(outcome, Exception):
            logger.error("a stream's connection could not be ended", exc_info=outcome)


async def _close_in_time(response: PostResponse) -> None:
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await response.close_connection(unless_waiting=True)
    except TimeoutError:
        logger.debug("a stream's connection is left to its host: the client does not read")
