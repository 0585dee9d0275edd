"""The reading ends of streams: what a GET hands to a `StreamSessionManager` and serves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.sessions.records import CloseReason
from tmcp_serverless.transports import sse
from tmcp_serverless.transports.addresses import inbox_of, request_id_of
from tmcp_serverless.transports.asgi import INTERNAL_ERROR
from tmcp_serverless.transports.jsonrpc import dump
from tmcp_serverless.transports.outlet import Outlet
from tmcp_serverless.transports.timing import KEEP_ALIVE_SECONDS
from tmcp_serverless.transports.versions import RESUMABLE_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.sessions.contracts import StreamSessionManager
    from tmcp_serverless.sessions.records import StoredEvent
    from tmcp_serverless.transports.addresses import EventId
    from tmcp_serverless.transports.asgi import Request, Send
    from tmcp_serverless.transports.options import HttpOptions
    from tmcp_serverless.transports.session import LoadedSession

__all__ = ["RequestReader", "StandaloneReader", "StreamReader"]

_LIST_CHANGES = (
    b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
    b'{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}',
    b'{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}',
)


class StreamReader:
    """One open GET: the controller of its stream.

    Args:
        send: The ASGI `send` of the GET.
        session: The session.
        options: How the transport behaves.
        one_batch: Whether it ends after the first events, on a host that delivers answers whole.

    """

    look_seconds = KEEP_ALIVE_SECONDS
    """How often `look` is called."""

    def __init__(self, send: Send, session: LoadedSession, options: HttpOptions, *, one_batch: bool) -> None:
        self._outlet = Outlet(send, on_gone=self.end)
        self._session = session
        self._options = options
        self._one_batch = one_batch
        self._writing = asyncio.Lock()
        self.superseded = False
        """Whether another GET has taken the stream over."""

        self._open = asyncio.Event()
        self._ended = asyncio.Event()

    async def opened(self, cursor: str) -> None:
        """Hear where the stream starts."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Send the events; waits while the client is slow."""
        await self._open.wait()
        frames = b"".join(self.frame(event) for event in events if event.data)
        if frames:
            await self._put(frames)
            if self._one_batch:
                self.end()

    async def missed(self, count: int) -> None:
        """Tell the client that messages have expired: never a silent gap."""
        raise NotImplementedError

    def close(self, reason: CloseReason) -> None:
        """End the stream: what is fenced writes nothing more, others say when to come back."""
        if reason is CloseReason.SUPERSEDED:
            self.superseded = True
        self.stop()

    def end(self) -> None:
        """Let `serve` return."""
        self._ended.set()

    def stop(self) -> None:
        """Let `serve` return soon, though the client may not read."""
        self._outlet.hurry()
        self.end()

    async def serve(self, request: Request, *, seconds: float | None) -> None:
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
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

    async def finish(self) -> None:
        """End the answer. After the stream was released: nothing follows."""
        await self._outlet.end(b"" if self.superseded else self.closing())

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event as it goes out."""
        raise NotImplementedError

    def opening(self) -> bytes:
        """Return what goes out first: something has to, for the headers to leave."""
        return sse.KEEP_ALIVE

    def closing(self) -> bytes:
        """Return what goes out last, unless the stream was taken over."""
        return sse.retry(self._options.retry_milliseconds)

    async def look(self) -> None:
        """Do what is due once in a while."""
        await self._put(sse.KEEP_ALIVE)

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


class StandaloneReader(StreamReader):
    """The session's standalone stream."""

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event with its cursor as its id."""
        id = event.cursor if self._options.replay else None
        return sse.event(event.data.encode(), id=id)

    async def opened(self, cursor: str) -> None:
        """Give the client an id before the first event: what is written as a connection dies is not lost."""
        if self._options.replay and self._session.record.protocol_version >= RESUMABLE_VERSION:
            await self._open.wait()
            await self._put(sse.priming(cursor, retry_milliseconds=self._options.retry_milliseconds))

    async def missed(self, count: int) -> None:
        """Tell the client to refetch: what lists say now makes up for what was said about them."""
        del count
        await self._open.wait()
        await self._put(b"".join(sse.event(message) for message in _LIST_CHANGES))


class RequestReader(StreamReader):
    """The stream of a request that runs, or ran, on some instance: it ends with the request's answer."""

    look_seconds = 2.0

    def __init__(
        self,
        send: Send,
        session: LoadedSession,
        options: HttpOptions,
        *,
        one_batch: bool,
        after: EventId,
        streams: StreamSessionManager,
    ) -> None:
        super().__init__(send, session, options, one_batch=one_batch)
        self._after = after
        self._streams = streams
        self._answered = False
        self._absences = 0
        self._looks = 0

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Send the events; the stream ends when the answer has been sent."""
        await super().write(events)
        if self._answered:
            self.end()

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event with its id; the answer is the last."""
        is_answer = "method" not in json.loads(event.data)
        self._answered = self._answered or is_answer
        id = self._after._replace(cursor=event.cursor, last=is_answer)
        return sse.event(event.data.encode(), id=str(id))

    def opening(self) -> bytes:
        """Return the id that the client came with: clients forget it with the connection that brought it."""
        return sse.priming(str(self._after), retry_milliseconds=self._options.retry_milliseconds)

    def closing(self) -> bytes:
        """Return the hint when to come back, where there is more to come."""
        return b"" if self._answered else super().closing()

    async def missed(self, count: int) -> None:
        """Answer the request with an error: part of its stream is gone."""
        await self._open.wait()
        await self._give_up(f"{count} events of this stream have expired; call again")

    async def look(self) -> None:
        """See whether anybody still runs the request; if not, answer in its stead."""
        self._looks += 1
        try:
            runs = await self._streams.has(inbox_of(self._session.id, self._after.name))
        except StoreUnavailableError:
            return
        self._absences = 0 if runs else self._absences + 1
        if self._absences > 1:
            await self._give_up("The instance that ran this request is gone; call again")
        elif self._looks % 8 == 0:
            await super().look()

    async def _give_up(self, text: str) -> None:
        if not self._answered:
            self._answered = True
            error = {"code": INTERNAL_ERROR, "message": text}
            answer = {"jsonrpc": "2.0", "id": request_id_of(self._after.name), "error": error}
            # The id is marked last, so even a client that cannot match this answer to its request does not
            # resume.
            id = self._after._replace(last=True)
            await self._put(sse.event(dump(answer), id=str(id)))
        self.end()
