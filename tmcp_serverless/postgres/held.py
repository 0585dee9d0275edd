"""The streams that this process holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tmcp_serverless.sessions.ids import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions.cursors import Cursor
    from tmcp_serverless.sessions.pump import Pump

__all__ = ["HeldStream", "OpenStreams"]


@dataclass(slots=True)
class HeldStream:
    """One open stream of this process."""

    id: str
    holder: str
    pump: Pump

    cursor: Cursor
    """How far it has been read."""

    before: Cursor
    """How far it had been read before the last read."""

    last: Cursor
    """What both mailboxes had reached when the stream was claimed."""

    heard: int = 0
    """How often its own mailbox was heard of since the last read began: once for each message."""

    heard_topic: int = 0
    """How often the topic was."""

    unsure: bool = True
    """Whether there may be more to read than was heard of."""

    @property
    def resume_cursor(self) -> Cursor:
        """Where the next stream is to go on, when this one has been stopped."""
        return self.before if self.pump.discarded else self.cursor

    @property
    def watches(self) -> bool:
        """Whether it reads the topics beside others, without a lease."""
        return self.id.startswith(EVENTS)

    def ring(self, notified: bool) -> None:  # noqa: FBT001 - what a doorbell calls
        """Look again: a message was appended to the session's own mailbox, or some may have been."""
        self.heard += 1
        self._look(notified)

    def ring_topic(self, notified: bool = False) -> None:  # noqa: FBT001, FBT002 - what a doorbell calls
        """Look again: a message was appended to the topic, or some may have been to either."""
        self.heard_topic += 1
        self._look(notified)

    def _look(self, notified: bool) -> None:  # noqa: FBT001 - as above
        self.unsure = self.unsure or not notified
        self.pump.ring()


@dataclass(frozen=True, slots=True)
class OpenStreams:
    """The streams that are open now, as statements about all of them take them."""

    holders: set[str]
    columns: tuple[list[str], list[str], list[str], list[int], list[int]]
    """The ids and holders of leases; the holders and places of watches."""

    @classmethod
    def of(cls, streams: Iterable[HeldStream]) -> Self:
        """Return those that still read."""
        reading = [stream for stream in streams if not stream.pump.finished]
        leases = [stream for stream in reading if not stream.watches]
        watches = [stream for stream in reading if stream.watches]
        columns = (
            [stream.id for stream in leases],
            [stream.holder for stream in leases],
            [stream.holder for stream in watches],
            [stream.cursor.own for stream in watches],
            [stream.cursor.topic for stream in watches],
        )
        return cls({stream.holder for stream in reading}, columns)
