"""Journal of a request's own stream: its events, kept so that another instance can continue it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.handshake.addresses import EventId, new_run
from tmcp_serverless.http import sse

if TYPE_CHECKING:
    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["PATIENCE_SECONDS", "RETRY_SECONDS", "Journal"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""Seconds of trying to store an event while the store is away."""

RETRY_SECONDS = 0.5
"""Seconds between two tries."""


class Journal:
    """Mailbox of one run of a request. Each event is committed before it is written.

    An event that cannot be committed is not written: the connection ends, the event waits here, and the
    client finds it in the mailbox when both are back. So no event is on the wire twice, or only there.

    Args:
        streams: The stream manager with the mailbox.
        session_id: The session.
        name: The request's name (`addresses.request_name`).
        retry_milliseconds: The time that a client should wait before it resumes, as a hint.

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
        """`True` if the client has been given an event id to resume from."""
        return self._cursor is not None

    async def prime(self) -> bytes:
        """Return the frame that begins the stream: an id and no data (2025-11-25)."""
        try:
            # The run's name is new, and so is its mailbox: the message's number is known.
            self._cursor = await self._streams.append(self._mailbox, "", after="") or None
        except StoreUnavailableError as error:
            logger.warning("a stream cannot be resumed, for its beginning could not be stored: %s", error)
        if self._cursor is None:
            return b""
        return sse.priming(str(self._id._replace(cursor=self._cursor)))

    async def record(self, data: bytes, *, last: bool) -> bytes:
        """Keep an event, and return the frames that go out now; `last`: it is the answer.

        Raises:
            StoreUnavailableError: The event could not be stored. It is kept, and goes with the next one.

        """
        if self._cursor is None:
            return sse.event(data)
        self._waiting.append((data, last))
        return await self._store()

    async def settle(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Store the waiting events, for as long as a client may reasonably come for them."""
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
        """Return the frame that tells the client when to come back; nothing if clients are not told."""
        return sse.retry(self._retry)

    async def _store(self) -> bytes:
        frames = b""
        while self._waiting:
            data, last = self._waiting[0]
            self._cursor = (
                await self._streams.append(self._mailbox, data.decode(), after=self._cursor) or None
            )
            self._waiting.popleft()
            id = None if self._cursor is None else str(self._id._replace(cursor=self._cursor, last=last))
            frames += sse.event(data, id=id)
        return frames
