"""GET: the session's standalone stream, or the stream of a request that is resumed behind an event id.

(basic/transports, "Listening for Messages from the Server" and "Resumability and Redelivery")
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tmcp_serverless.errors import InvalidCursorError, StoreUnavailableError
from tmcp_serverless.transports.addresses import EventId
from tmcp_serverless.transports.asgi import HttpProblem, respond
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.observing import note
from tmcp_serverless.transports.readers import RequestReader, StandaloneReader, StreamReader

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import StreamSessionManager
    from tmcp_serverless.transports.asgi import Request, Send
    from tmcp_serverless.transports.options import HttpOptions
    from tmcp_serverless.transports.session import LoadedSession

__all__ = ["GetStreams"]

logger = logging.getLogger(__name__)


class GetStreams:
    """Serves the GETs of a transport."""

    def __init__(self, streams: StreamSessionManager, options: HttpOptions) -> None:
        self._streams = streams
        self._options = options
        self._open: set[StreamReader] = set()

    @property
    def allowed_methods(self) -> bytes:
        """What an `Allow` header says."""
        return b"POST, DELETE, OPTIONS" if self._options.disable_sse else b"GET, POST, DELETE, OPTIONS"

    def drain(self) -> None:
        """End every open stream of this process; clients continue them on another instance."""
        for reader in self._open:
            reader.end()

    def check(self, request: Request) -> None:
        """Let the request pass.

        Raises:
            HttpProblem: 405 where there are no streams, 406 where the client does not take one.

        """
        if self._options.disable_sse or self._longest(request) <= 0:
            allowed = [(b"allow", b"POST, DELETE, OPTIONS")]
            raise HttpProblem(
                405, "Method Not Allowed: this server has no standalone stream", headers=allowed
            )
        if not request.accepts()[1]:
            raise HttpProblem(406, "Not Acceptable: Client must accept text/event-stream")

    async def serve(self, request: Request, send: Send, session: LoadedSession) -> None:
        """Open the stream that the request asks for, and hold it."""
        resumed = EventId.parse(request.headers.get("last-event-id", ""))
        if resumed is not None and resumed.last:
            # Nothing comes behind the answer, and 204 tells a client not to come back (WHATWG HTML, 9.2.3).
            await respond(send, 204, b"", session.headers)
            return
        reader, address, after = self._reader(request, send, session)
        try:
            await self._streams.create(address, reader, after=after)
        except InvalidCursorError as error:
            raise HttpProblem(400, f"Invalid Last-Event-ID: {error}") from None
        host = host_of(request.scope)
        self._open.add(reader)
        try:
            await reader.serve(request, seconds=host.seconds_left(at_most=self._longest(request)))
        finally:
            self._open.discard(reader)
            try:
                await self._streams.release(address, reader)
            except StoreUnavailableError as error:
                logger.debug("the lease is left to expire: %s", error)
        if reader.superseded:
            note(request.scope, "Takeovers")
        await reader.finish()

    def _longest(self, request: Request) -> float:
        if host_of(request.scope).streams:
            return self._options.stream_max_seconds
        return self._options.buffered_wait_seconds

    def _reader(
        self, request: Request, send: Send, session: LoadedSession
    ) -> tuple[StreamReader, str, str | None]:
        """Return what serves the GET, the mailbox that it reads, and the cursor that it starts behind."""
        last_event_id = request.headers.get("last-event-id") if self._options.replay else None
        resumed = EventId.parse(last_event_id) if last_event_id else None
        one_batch = not host_of(request.scope).streams
        if resumed is None:
            standalone = StandaloneReader(send, session, self._options, one_batch=one_batch)
            return standalone, session.id, last_event_id or None
        reader = RequestReader(
            send, session, self._options, one_batch=one_batch, after=resumed, streams=self._streams
        )
        return reader, resumed.mailbox(session.id), resumed.cursor
