"""GET: the session's standalone stream, or the stream of a request, resumed behind an event id.

(basic/transports, "Listening for Messages from the Server" and "Resumability and Redelivery")
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless.errors import InvalidCursorError, SessionNotFoundError, TmcpError
from tmcp_serverless.handshake.addresses import EventId
from tmcp_serverless.handshake.get_readers import RequestReader, StandaloneReader
from tmcp_serverless.handshake.standing_by import StandBy
from tmcp_serverless.http import HttpProblem, note, platform_of, respond, token_seconds
from tmcp_serverless.sessions import StreamShare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.handshake.stream_reader import StreamReader
    from tmcp_serverless.http import HttpOptions, Request, Send
    from tmcp_serverless.sessions import SessionManagers

__all__ = ["GetStreams"]

logger = logging.getLogger(__name__)

_CROWDED_SECONDS = 0.5
"""Seconds that a stream waits for messages while streams hold their share of a function's sandboxes."""


class GetStreams:
    """GET handler of a transport, with its open streams."""

    def __init__(self, managers: SessionManagers, options: HttpOptions) -> None:
        self._managers = managers
        self._options = options
        self._share = StreamShare(managers.streams, options.function_streams)
        self._open: set[StreamReader] = set()
        self._drains = 0

    @property
    def allowed_methods(self) -> bytes:
        """Value of an `Allow` header."""
        return b"POST, DELETE, OPTIONS" if self._options.disable_sse else b"GET, POST, DELETE, OPTIONS"

    def drain(self) -> None:
        """End every open stream of this process; clients continue them on another instance."""
        self._drains += 1
        for reader in self._open:
            reader.stop()

    async def serve(
        self, request: Request, send: Send, load: Callable[[Request], Awaitable[LoadedSession]]
    ) -> None:
        """Open the stream that the request asks for, and hold it.

        Args:
            request: The GET.
            send: Its ASGI `send`.
            load: Returns the session that a request names.

        Raises:
            HttpProblem: 405 if there is no such stream, 406 if the client does not accept one, 400 for a
                `Last-Event-ID` of no form of ours.
            SessionNotFoundError: The session was deleted while its stream was being opened.

        """
        resumed = EventId.parse(request.headers.get("last-event-id", ""))
        self._check(request, resumed)
        drains = self._drains
        session = await load(request)
        if resumed is not None and resumed.last:
            # Nothing follows the answer, and 204 tells a client not to come back (WHATWG HTML, 9.2.3).
            await respond(send, 204, b"", session.headers)
            return
        crowded = resumed is None and await self._is_crowded(request, session)
        reader, address, after = self._reader(request, send, session, resumed, crowded=crowded)
        self._open.add(reader)
        if self._drains != drains:
            reader.stop()
        try:
            await self._open_and_hold(request, session, reader, address, after)
        finally:
            self._open.discard(reader)
        if reader.takeovers:
            note(request.scope, "Takeovers")
        await reader.finish()

    async def _is_crowded(self, request: Request, session: LoadedSession) -> bool:
        """Return `True` if streams hold their share of a function's sandboxes, without the session's own."""
        if not self._share.is_bounded or not platform_of(request.scope).holds_a_sandbox:
            return False
        if crowded := await self._share.is_taken(besides=session.id):
            note(request.scope, "ShortStreams")
        return crowded

    def _check(self, request: Request, resumed: EventId | None) -> None:
        # A request's messages are not lost for want of a standalone stream: its own may be resumed.
        refused = self._options.disable_sse and resumed is None
        delivered_whole = not platform_of(request.scope).streams
        if refused or (delivered_whole and self._options.buffered_wait_seconds <= 0):
            allowed = [(b"allow", b"POST, DELETE, OPTIONS")]
            raise HttpProblem(
                405, "Method Not Allowed: this server has no standalone stream", headers=allowed
            )
        if not request.accepts()[1]:
            raise HttpProblem(406, "Not Acceptable: Client must accept text/event-stream")

    async def _open_and_hold(
        self, request: Request, session: LoadedSession, reader: StreamReader, address: str, after: str | None
    ) -> None:
        streams = self._managers.streams
        waiting = StandBy(streams, address, reader, check=partial(self._check_again, session))
        reader.on_superseded = waiting.begin
        try:
            await reader.claim(streams, address, after)
        except InvalidCursorError as error:
            raise HttpProblem(400, f"Invalid Last-Event-ID: {error}") from None
        try:
            await self._check_again(session)
            await reader.serve(request, seconds=self._seconds(request, reader))
        finally:
            try:
                await waiting.aclose()
            finally:
                await self._release(address, reader)

    async def _release(self, address: str, reader: StreamReader) -> None:
        streams = self._managers.streams
        try:
            await streams.release(address, reader)
        except TmcpError as error:
            logger.debug("the lease is left to expire: %s", error)

    async def _check_again(self, session: LoadedSession) -> None:
        """Check that the session was not deleted before its stream existed and could be ended with it.

        Raises:
            SessionNotFoundError: It was deleted.

        """
        if not await self._is_there(session):
            await self._managers.streams.delete(session.id)
            raise SessionNotFoundError

    async def _is_there(self, session: LoadedSession) -> bool:
        return await self._managers.info.load(session.id, principal=session.record.principal) is not None

    def _seconds(self, request: Request, reader: StreamReader) -> float:
        """Return the seconds that the stream may last.

        On a host that streams, it ends with the request's token.
        """
        host = platform_of(request.scope)
        if reader.is_short:
            return host.seconds_left(at_most=_CROWDED_SECONDS)
        if not host.streams:
            return host.seconds_left(at_most=self._options.buffered_wait_seconds)
        longest = host.stream_seconds(self._options.stream_max_seconds, resumable=reader.resumable)
        return min(longest, token_seconds(request.scope))

    def _reader(
        self,
        request: Request,
        send: Send,
        session: LoadedSession,
        resumed: EventId | None,
        *,
        crowded: bool,
    ) -> tuple[StreamReader, str, str | None]:
        """Return the reader for the GET, the mailbox that it reads, and what its `claim` starts behind."""
        one_batch = crowded or not platform_of(request.scope).streams
        if resumed is None:
            standalone = StandaloneReader(
                send, session, self._options, one_batch=one_batch, is_there=partial(self._is_there, session)
            )
            standalone.is_short = crowded
            id = request.headers.get("last-event-id") if self._options.replay else None
            return standalone, session.id, id
        streams = self._managers.streams
        reader = RequestReader(
            send, session, self._options, one_batch=one_batch, after=resumed, streams=streams
        )
        return reader, resumed.mailbox(session.id), resumed.cursor
