"""What a request's own stream has carried, kept so that another instance can continue it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports import sse
from tmcp_serverless.transports.addresses import EventId

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import StreamSessionManager

__all__ = ["Journal"]

logger = logging.getLogger(__name__)


class Journal:
    """The mailbox of one request's stream. Each event is committed before it is written.

    Where the store is away the event goes out without an id: a client that loses its connection then resumes
    from the last one that has an id, and misses what was not stored.

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
        self._name = name
        self._mailbox = EventId.mailbox(session_id, name)
        self._retry = retry_milliseconds
        self.resumable = False
        """Whether the client has been given an event id to resume from."""

    async def prime(self) -> bytes:
        """Return the frame that begins the stream: an id, a retry hint and no data (2025-11-25)."""
        id = await self._append("")
        if id is None:
            return b""
        self.resumable = True
        return sse.priming(id, retry_milliseconds=self._retry)

    async def record(self, data: bytes, *, last: bool) -> bytes:
        """Keep an event, and return its frame; `last`: it is the answer."""
        return sse.event(data, id=await self._append(data.decode(), last=last))

    def retry(self) -> bytes:
        """Return the frame that says when to come back."""
        return sse.retry(self._retry)

    async def _append(self, data: str, *, last: bool = False) -> str | None:
        try:
            cursor = await self._streams.append(self._mailbox, data)
        except StoreUnavailableError as error:
            logger.warning("an event goes out without an id, for it could not be stored: %s", error)
            return None
        return None if cursor is None else str(EventId(self._name, cursor, last=last))
