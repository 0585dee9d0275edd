"""Records that the session managers store and return, and the stream controller."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias

from tmcp_serverless.errors import InvalidCursorError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ANONYMOUS",
    "CloseReason",
    "Cursor",
    "Json",
    "NotWrittenError",
    "SessionRecord",
    "StoredEvent",
    "StreamController",
    "refuse_nul",
]

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

ANONYMOUS = ""
"""The principal of requests that carry no credential."""

_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})")


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


class Cursor(NamedTuple):
    """A stream's position: the numbers of the last messages from its own mailbox and from the topic."""

    own: int
    topic: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text that `str` wrote.

        Raises:
            InvalidCursorError: The text is not of that form.

        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursorError(f"not a cursor of this stream: {text[:64]!r}")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def after(cls, text: str) -> Self:
        """Parse a cursor that a mailbox's only writer gives; an empty one is before the first message."""
        return cls.parse(text) if text else cls(0, 0)

    def __str__(self) -> str:
        return f"{self.own}.{self.topic}"


def refuse_nul(data: str) -> None:
    """Refuse a message that cannot be JSON text, and that Postgres could not store.

    Raises:
        ValueError: The message has a NUL character.

    """
    if "\0" in data:
        raise ValueError("a message is JSON text, which has no NUL character (JSON writes it as \\u0000)")


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

        An event without data is skipped: it keeps a place in the mailbox, or shows that the client is there.

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
