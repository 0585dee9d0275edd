"""Records that the session managers store and return, and the stream controller."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANONYMOUS",
    "CloseReason",
    "Json",
    "NotWrittenError",
    "SessionRecord",
    "StoredEvent",
    "StreamController",
]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

ANONYMOUS = ""
"""The principal of requests that carry no credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session's data: the result of `initialize`, and later changes. All that a later request needs."""

    protocol_version: str
    """The negotiated revision, such as `2025-11-25`."""

    client_info: Json
    """The client's `Implementation` object, as it sent it; empty before `initialize` (`is_negotiated`)."""

    client_capabilities: Json
    """The client's `ClientCapabilities` object, as it sent it."""

    principal: str = ANONYMOUS
    """The owner of the session. Requests of any other principal do not find it."""

    log_level: str | None = None
    """The level that `logging/setLevel` set; `None` before that."""

    initialized: bool = False
    """True if the client has sent `notifications/initialized`."""

    @property
    def is_negotiated(self) -> bool:
        """True if `initialize` has been answered. A session of HTTP+SSE exists before that."""
        return bool(self.client_info)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message as a stream's mailbox holds it."""

    data: str
    """A JSON-RPC message as JSON text, stored and forwarded as it is."""

    cursor: str = field(compare=False)
    """The stream's cursor after this message: opaque, 1-64 characters of `0-9 A-Z a-z . - _`.

    `StreamSessionManager.create(after=...)` with it continues right behind this message.
    """


class CloseReason(StrEnum):
    """Reasons for which a manager closes a stream's controller."""

    DELETED = "deleted"
    """The session was deleted, by this process or by another."""

    INTERRUPTED = "interrupted"
    """The stream was ended so that the client opens it again; nothing was forgotten."""

    SUPERSEDED = "superseded"
    """Another controller took the stream over; this controller has written all that was read for it."""

    CUT_OFF = "cut off"
    """The same in the middle of a read or a write: the events read may not have been written."""

    UNAVAILABLE = "unavailable"
    """The store has been out of reach for longer than the lease lasts; the client should come back."""

    SHUTDOWN = "shutdown"
    """The manager is being closed."""


class NotWrittenError(Exception):
    """Raised by `StreamController.write` if nothing of the events went out."""


class StreamController(Protocol):
    """The writing end of one open stream. A transport hands it to `StreamSessionManager.create`."""

    async def opened(self, cursor: str) -> None:
        """Receive the stream's start before the first events: a cursor to continue behind."""
        ...

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Write the next events, in order. Returning late slows the reading down; raising ends the stream.

        Raises:
            NotWrittenError: The client is gone and nothing went out: the events are for the next stream.

        """
        ...

    async def missed(self, count: int) -> None:
        """Receive the number of messages that have expired before this stream could read them."""
        ...

    def close(self, reason: CloseReason) -> None:
        """End the stream: nothing is written after this. Called once at the most; must not block."""
        ...
