"""What a request's own stream has carried, kept so that another instance can continue it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports import sse
from tmcp_serverless.transports.addresses import EventId, new_run
from tmcp_serverless.transports.timing import PATIENCE_SECONDS, RETRY_SECONDS

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import StreamSessionManager

__all__ = ["Journal"]

logger = logging.getLogger(__name__)


class Journal:
    """The mailbox of one run of a request. Each event is committed before it is written.

    What cannot be committed is not written: the connection ends, the event waits here, and the client finds
    it in the mailbox when both are back. So no event is on the wire twice, or only there.

    Args:
        streams: Where the mailbox is.
        session_id: The session.
        name: The request's name (`addresses.request_name`).
        retry_milliseconds: The hint how long a client should wait before it resumes.

    """

    def __init__(
        self, streams: StreamSessionManager, session_id: str, name: str, *, retry_milliseconds: int
    ) -> None:
        self._streams = streams
        self._id = EventId(name, new_run(), "")
        self._mailbox = self._id.mailbox(session_id)
        self._retry = retry_milliseconds
        self._cursor: str | None = None
        self._waiting: deque[tuple[bytes, bool]] = deque()

    @property
    def resumable(self) -> bool:
        """Whether the client has been given an event id to resume from."""
        return self._cursor is not None

    async def prime(self) -> bytes:
        """Return the frame that begins the stream: an id and no data (2025-11-25)."""
        try:
            self._cursor = await self._streams.append(self._mailbox, "")
        except StoreUnavailableError as error:
            logger.warning("a stream cannot be resumed, for its beginning could not be stored: %s", error)
        if self._cursor is None:
            return b""
        return sse.priming(str(self._id._replace(cursor=self._cursor)))

    async def record(self, data: bytes, *, last: bool) -> bytes:
        """Keep an event, and return what goes out now; `last`: it is the answer.

        Raises:
            StoreUnavailableError: It could not be stored; it is kept, and goes with the next one.

        """
        if self._cursor is None:
            return sse.event(data)
        self._waiting.append((data, last))
        return await self._store()

    async def settle(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Store what waits, for as long as anybody may reasonably come for it."""
        try:
            async with asyncio.timeout(seconds):
                while self._waiting:
                    try:
                        await self._store()
                    except StoreUnavailableError:
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            logger.warning("%d events of a stream could not be stored", len(self._waiting))

    def retry(self) -> bytes:
        """Return the frame that says when to come back; nothing where clients are not told."""
        return sse.retry(self._retry)

    async def _store(self) -> bytes:
        frames = b""
        while self._waiting:
            data, last = self._waiting[0]
            self._cursor = await self._streams.append(self._mailbox, data.decode(), after=self._cursor)
            self._waiting.popleft()
            id = None if self._cursor is None else str(self._id._replace(cursor=self._cursor, last=last))
            frames += sse.event(data, id=id)
        return frames
