"""Reading end of a stream: one open GET, as the controller of its stream."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.http import RESUMABLE_VERSION, ClientStream, sse
from tmcp_serverless.sessions import CloseReason, NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.http import HttpOptions, Request, Send
    from tmcp_serverless.sessions import StoredEvent, StreamSessionManager

__all__ = ["StreamReader"]

logger = logging.getLogger(__name__)

_SHORT_RETRY_MILLISECONDS = 5_000
"""Pause that a client is asked for after a short stream."""

_SLIDE_SECONDS = 300.0
"""Interval at which an open stream shows that its session is in use."""


class StreamReader:
    """Open GET: the controller of its stream.

    Args:
        send: The ASGI `send` of the GET.
        session: The session.
        options: The transport's options.
        one_batch: `True` if it ends after the first events, on a host that delivers answers whole.
        is_there: Returns `True` if the session still exists, and slides its idle clock.

    """

    resumable = True
    """`True` if the client was given an id to continue from, so that the connection may end at any time."""

    is_short = False
    """`True` if the stream ends at once, and its client is asked to stay away for a while."""

    look_seconds = sse.KEEP_ALIVE_SECONDS
    """Interval between two calls of `look`."""

    def __init__(
        self,
        send: Send,
        session: LoadedSession,
        options: HttpOptions,
        *,
        one_batch: bool,
        is_there: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._outlet = ClientStream(send, on_gone=self.end)
        self._session = session
        self._options = options
        self._one_batch = one_batch
        self._is_there = is_there
        self._slides_at = self._next_slide()
        self._over = False
        """`True` if nothing follows on another connection, so that the client gets no retry hint."""

        self.on_superseded: Callable[[], None] | None = None
        """Called when another GET has taken the stream over, and this one stays open; `None`: it ends."""
        self._writing = asyncio.Lock()
        self.superseded = False
        """`True` while another GET has the stream; this one writes comments until it has it again."""

        self.takeovers = 0
        """Number of times that another GET has taken the stream over."""

        self._open = asyncio.Event()
        self._ended = asyncio.Event()
        self._served = False
        """`True` once `serve` has returned: events that still come are for the next stream."""

    written: str | None = None
    """Cursor behind the last event of this connection, or the one that it began at."""

    async def claim(self, streams: StreamSessionManager, id: str, after: str | None) -> None:
        """Claim the stream behind a cursor; `None`: behind the last event that any connection was given."""
        await streams.create(id, self, after=after)

    async def opened(self, cursor: str) -> None:
        """Take the cursor at the start of the stream."""

    async def stand_by(self, streams: StreamSessionManager, id: str) -> None:
        """Wait while another GET has the stream, until this one has it again."""
        await streams.stand_by(id, self, after=self.written)

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Send the events. Wait while the client is slow.

        Raises:
            NotWrittenError: The client is known to be gone.

        """
        await self._open.wait()
        async with self._writing:
            if self._outlet.gone or self._served:
                raise NotWrittenError
            frames = b"".join(self.frame(event) for event in events if event.data)
            await self._outlet.write(frames)
        if frames and self._one_batch:
            self.end()

    async def missed(self, count: int) -> None:
        """Tell the client that messages have expired: never a silent gap."""
        raise NotImplementedError

    def close(self, reason: CloseReason) -> None:
        """End the stream, or stand by if another GET has taken it over."""
        if reason is CloseReason.SUPERSEDED:
            self.superseded = True
            self.takeovers += 1
            if self.on_superseded is not None and not self._served:
                self.on_superseded()
                return
        self._over = self._over or reason is CloseReason.DELETED
        self.stop()

    def end(self) -> None:
        """Let `serve` return."""
        self._ended.set()

    def stop(self) -> None:
        """Let `serve` return soon, even if the client does not read."""
        self._outlet.hurry()
        self.end()

    async def serve(self, request: Request, *, seconds: float) -> None:
        """Hold the stream open until the manager closes it, the client leaves, or its time is over."""
        headers = [*sse.SSE_HEADERS, *self._session.headers]
        await self._outlet.start(200, headers)
        await self._put(self.opening())
        self._open.set()
        left = asyncio.create_task(self._watch(request))
        try:
            async with asyncio.timeout(seconds):
                while not self._ended.is_set():
                    await self._wait_and_look()
        except TimeoutError:
            self.stop()
        finally:
            self._served = True
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    async def finish(self) -> None:
        """End the response. Called after the stream was released: nothing follows."""
        await self._outlet.end(self.closing())

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event as it goes out."""
        raise NotImplementedError

    def opening(self) -> bytes:
        """Return the first frame: something has to go out for the headers to leave."""
        return sse.KEEP_ALIVE

    def closing(self) -> bytes:
        """Return the last frame: the retry hint, if the connection ends before the stream."""
        if self._over or self._session.record.protocol_version < RESUMABLE_VERSION:
            return b""
        milliseconds = self._options.retry_milliseconds
        if self.is_short and milliseconds:
            milliseconds = max(milliseconds, _SHORT_RETRY_MILLISECONDS)
        return sse.retry(milliseconds)

    async def look(self) -> None:
        """Keep the connection alive and, less often, the session: its client may have nothing to say."""
        await self._put(sse.KEEP_ALIVE)
        if self._is_there is None or asyncio.get_running_loop().time() < self._slides_at:
            return
        self._slides_at = self._next_slide()
        try:
            if not await self._is_there():
                self.close(CloseReason.DELETED)
        except StoreUnavailableError as error:
            logger.debug("a session is looked for later: %s", error)

    def _next_slide(self) -> float:
        seconds = min(_SLIDE_SECONDS, self._options.stream_max_seconds or _SLIDE_SECONDS)
        return asyncio.get_running_loop().time() + seconds

    async def _wait_and_look(self) -> None:
        try:
            async with asyncio.timeout(self.look_seconds):
                await self._ended.wait()
        except TimeoutError:
            await self.look()

    async def _watch(self, request: Request) -> None:
        await request.disconnected()
        self._outlet.gone = True
        self.stop()

    async def _put(self, frame: bytes) -> None:
        async with self._writing:
            await self._outlet.write(frame)
