"""Readers of a session's standalone stream, and of a request's stream."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.handshake.addresses import StandaloneId, inbox_of, new_connection, request_id_of
from tmcp_serverless.handshake.stream_reader import StreamReader
from tmcp_serverless.http import INTERNAL_ERROR, RESUMABLE_VERSION, dump, sse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.handshake.addresses import EventId
    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.http import HttpOptions, Send
    from tmcp_serverless.sessions import StoredEvent, StreamSessionManager

__all__ = ["RequestReader", "StandaloneReader"]

_LIST_CHANGES = (
    b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
    b'{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}',
    b'{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}',
)


class StandaloneReader(StreamReader):
    """Reader of the session's standalone stream."""

    _cursor: str | None = None
    """Cursor of the stream on this connection; `None` while another connection has the stream."""

    _said = False
    """`True` if the client has been given an id on this connection."""

    @property
    def resumable(self) -> bool:
        """`True` if the client has an id when the connection ends, however little was sent on it."""
        return self._options.replay

    @property
    def _begins_with_id(self) -> bool:
        # Before 2025-11-25 clients take an event without data for a broken message.
        return self._options.replay and self._session.record.protocol_version >= RESUMABLE_VERSION

    def frame(self, event: StoredEvent) -> bytes:
        """Return an event with its cursor as its id."""
        self.written = event.cursor
        if not self._options.replay:
            return sse.event(event.data.encode())
        self._cursor, self._said = event.cursor, True
        return sse.event(event.data.encode(), id=event.cursor)

    async def claim(self, streams: StreamSessionManager, id: str, after: str | None) -> None:
        """Claim the stream behind the event id that the client came with."""
        last = StandaloneId.parse(after or "")
        if last.at_least:
            await streams.stand_by(id, self, after=last.cursor, at_once=True)
        else:
            await super().claim(streams, id, last.cursor)

    async def opened(self, cursor: str) -> None:
        """Give the client an id before the first event: data written to a dying connection is not lost."""
        self._cursor = self.written = cursor
        await self._give_id()

    async def stand_by(self, streams: StreamSessionManager, id: str) -> None:
        """Wait with an id that continues at the point the stream's other connection stops.

        With the last id that it has, the client would be sent again the messages that the other connection
        has carried. Yet the new id has that cursor too: a connection that is dead may have moved the stream
        back, with an old id, by the time that the client returns.
        """
        self._cursor, self._said = None, False
        await self._give_id()
        await super().stand_by(streams, id)

    def closing(self) -> bytes:
        """Return a ping with an id, if no id has gone out; then the retry hint, as on other streams.

        Clients before 2025-11-25 take an id alone for a broken message. Every client answers a ping.
        """
        if self._over or self._said or not self._options.replay:
            return super().closing()
        ping = {"jsonrpc": "2.0", "id": f"ping-{secrets.token_hex(8)}", "method": "ping"}
        return sse.event(dump(ping), id=self._id()) + super().closing()

    async def _give_id(self) -> None:
        if self._begins_with_id:
            await self._open.wait()
            await self._put(sse.priming(self._id()))
            self._said = True

    def _id(self) -> str:
        if self._cursor is None:
            return str(StandaloneId(self.written, new_connection(), at_least=True))
        return str(StandaloneId(self._cursor, new_connection()))

    async def missed(self, count: int) -> None:
        """Tell the client to refetch: the lists as they are now make up for the messages about them."""
        del count
        await self._open.wait()
        await self._put(b"".join(sse.event(message) for message in _LIST_CHANGES))


class RequestReader(StreamReader):
    """Reader of the stream of a request that runs, or ran, on some instance. It ends with the answer."""

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
        """Return an event with the id that the client came with: clients forget it with its connection."""
        return sse.priming(str(self._after._replace(connection=new_connection())))

    def closing(self) -> bytes:
        """Return the retry hint, if there is more to come."""
        return b"" if self._answered else super().closing()

    async def stand_by(self, streams: StreamSessionManager, id: str) -> None:
        """Wait until no other GET has the stream, and end the connection.

        The client continues behind the last id that it has seen. Continuing here, behind the events that the
        other connection was sent, could leave the client without the answer.
        """
        while await streams.has(id):  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(self.look_seconds)
        self.stop()
        await asyncio.Event().wait()

    async def missed(self, count: int) -> None:
        """Answer the request with an error: part of its stream is gone."""
        await self._open.wait()
        await self._give_up(f"{count} events of this stream have expired; call again")

    async def look(self) -> None:
        """Check that an instance still runs the request. If none does, answer in its stead."""
        self._looks += 1
        if self._looks % 8 == 0:
            await super().look()
        if self.superseded:
            return
        try:
            runs = await self._streams.has(inbox_of(self._session.id, self._after.name))
        except StoreUnavailableError:
            return
        self._absences = 0 if runs else self._absences + 1
        if self._absences > 1:
            await self._give_up("The instance that ran this request is gone; call again")

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
