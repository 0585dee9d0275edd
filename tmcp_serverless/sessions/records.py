"""What the session managers store and hand out."""

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
    """What `initialize` settled, and what the session said since: all that a later request needs."""

    protocol_version: str
    """The negotiated revision, such as `2025-11-25`."""

    client_info: Json
    """The client's `Implementation` object, as it sent it; empty before `initialize` (`is_negotiated`)."""

    client_capabilities: Json
    """The client's `ClientCapabilities` object, as it sent it."""

    principal: str = ANONYMOUS
    """Whose session it is. Requests of any other principal do not find it."""

    log_level: str | None = None
    """The level that `logging/setLevel` set; `None` before that."""

    initialized: bool = False
    """Whether the client has sent `notifications/initialized`."""

    @property
    def is_negotiated(self) -> bool:
        """Whether `initialize` has been answered: a session of HTTP+SSE exists before that."""
        return bool(self.client_info)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message as a stream's mailbox holds it."""

    data: str
    """A JSON-RPC message as JSON text, stored and forwarded as it is."""

    cursor: str = field(compare=False)
    """The stream's place after this message: opaque, 1-64 characters of `0-9 A-Z a-z . - _`.

    Given back to `StreamSessionManager.create(after=...)` it continues right behind this message.
    """


class CloseReason(StrEnum):
    """Why a manager closed a stream's controller."""

    DELETED = "deleted"
    """The session was deleted, by this process or by another."""

    INTERRUPTED = "interrupted"
    """The stream was ended so that the client opens it again; nothing was forgotten."""

    SUPERSEDED = "superseded"
    """Another controller took the stream over; this one has written all that was read for it."""

    CUT_OFF = "cut off"
    """The same in the middle of a read or a write: what was read for this one may not have been written."""

    UNAVAILABLE = "unavailable"
    """The store has been out of reach for longer than the lease lasts; the client should come back."""

    SHUTDOWN = "shutdown"
    """The manager is being closed."""


class NotWrittenError(Exception):
    """Raised by `StreamController.write` where nothing of the events went out."""


class StreamController(Protocol):
    """What a transport hands to `StreamSessionManager.create`: the writing end of one open stream."""

    async def opened(self, cursor: str) -> None:
        """Hear, before the first events, where the stream starts: a cursor to continue behind."""
        ...

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Take the next events, in order. Returning late slows the reading down; raising ends the stream.

        Raises:
            NotWrittenError: The client is gone and nothing of them went out: they are for the next stream.

        """
        ...

    async def missed(self, count: int) -> None:
        """Hear that so many messages have expired before this stream could read them."""
        ...

    def close(self, reason: CloseReason) -> None:
        """End the stream: nothing is written after this. Called once at the most; must not block."""
        ...
