"""Streams of HTTP+SSE: one for each session, from the session's first moment to its last.

A client of this transport cannot resume: it has no event ids, and no way to name its session when it comes
again. So the stream has no end of its own. When it ends, for any reason, the session ends with it.
(2024-11-05, basic/transports, "HTTP with SSE")
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.handshake.session import LoadedSession
from tmcp_serverless.handshake.stream_reader import StreamReader
from tmcp_serverless.http import NO_END_SECONDS, HttpProblem, note, platform_of, sse, token_seconds
from tmcp_serverless.sessions import StreamShare
from tmcp_serverless.sessions.addresses import mint_stream_session_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.http import HttpOptions, Request, Send
    from tmcp_serverless.sessions import SessionManagers, StoredEvent

__all__ = ["HttpSseStreams"]

logger = logging.getLogger(__name__)


class HttpSseStreams:
    """GET handler of the transport. Each GET is a session."""

    def __init__(self, managers: SessionManagers, options: HttpOptions) -> None:
        self._managers = managers
        self._options = options
        self._share = StreamShare(managers.streams, options.function_streams)
        self._open: set[_SessionReader] = set()
        self._ending: set[asyncio.Task[None]] = set()

    def drain(self) -> None:
        """End every open stream of this process, and its session with it."""
        for reader in self._open:
            reader.stop()

    async def serve(self, request: Request, send: Send, *, principal: str, message_uri: str) -> None:
        """Begin a session, and hold its stream until either ends.

        Raises:
            HttpProblem: 405 on a host that delivers answers whole, 429 if streams hold their share of a
                function's sandboxes.

        """
        if not platform_of(request.scope).streams:
            wrong = "Method Not Allowed: answers are delivered whole here, and this one has no end"
            raise HttpProblem(405, wrong, headers=[(b"allow", b"OPTIONS")])
        if platform_of(request.scope).holds_a_sandbox and await self._share.is_taken():
            note(request.scope, "RefusedStreams")
            wrong = "Too Many Requests: streams hold their share of the sandboxes (TMCP_FUNCTION_STREAMS)"
            raise HttpProblem(429, wrong, headers=[(b"retry-after", b"5")])
        id = mint_stream_session_id()
        session = LoadedSession.before_initialize(id, principal=principal)
        reader = _SessionReader(
            send,
            session,
            self._options,
            endpoint=f"{message_uri}?session_id={id}",
            is_there=partial(session.still_exists, self._managers.info),
        )
        self._open.add(reader)
        try:
            await self._managers.info.initialize(id, session.record)
            # The lease is held before the client learns the id: a session without a live stream is dead.
            await self._managers.streams.create(id, reader)
            left = platform_of(request.scope).seconds_left(at_most=NO_END_SECONDS)
            await reader.serve(request, seconds=min(left, token_seconds(request.scope)))
        finally:
            self._open.discard(reader)
            # In a task of its own, so that the session is deleted even if the host stops this task meanwhile.
            ending = asyncio.create_task(self._end(id, reader))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)
        await reader.finish()

    async def forget(self, id: str) -> None:
        """Delete a session with a dead stream.

        An instance that holds the stream after all finds it deleted, and ends it.
        """
        await self._managers.info.delete(id)
        await self._managers.streams.delete(id)

    async def _end(self, id: str, reader: _SessionReader) -> None:
        """Delete the session, the metadata first: from then on the id is 404 on every instance."""
        streams = self._managers.streams
        steps: list[Callable[[], Awaitable[None]]] = [
            partial(self._managers.info.delete, id),
            partial(streams.release, id, reader),
            partial(streams.delete, id),
        ]
        for step in steps:
            try:
                await step()
            except TmcpError as error:
                logger.debug("a session is left to expire: %s", error)
            except Exception:
                logger.exception("a session is left to expire")


class _SessionReader(StreamReader):
    """Reader of a session's one stream: the endpoint first, then messages without ids.

    Args:
        send: The ASGI `send` of the GET.
        session: The session.
        options: The transport's options.
        endpoint: The address that the client posts its messages to.
        is_there: As for `StreamReader`.

    """

    def __init__(
        self,
        send: Send,
        session: LoadedSession,
        options: HttpOptions,
        *,
        endpoint: str,
        is_there: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(send, session, options, one_batch=False, is_there=is_there)
        self._over = True  # There is no session to come back to.
        self._endpoint = endpoint
        self._broken = False

    def opening(self) -> bytes:
        """Return the transport's first event: the address that the client posts its messages to."""
        return sse.endpoint(self._endpoint)

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event without an id: the revision has none."""
        return sse.event(event.data.encode())

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Send the events, unless some before them are lost."""
        if not self._broken:
            await super().write(events)

    async def missed(self, count: int) -> None:
        """End the session: answers may be among the expired messages, and the client would wait for them."""
        logger.warning("a session ended: its client was too slow, and %d messages have expired", count)
        self._broken = True
        self.stop()
