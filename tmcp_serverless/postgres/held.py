"""The streams that this process holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tmcp_serverless.sessions import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions import Pump

__all__ = ["HeldStream", "OpenStreams"]


_BEGINNING = Cursor(0, 0)


@dataclass(slots=True)
class HeldStream:
    """One open stream of this process."""

    id: str
    holder: str
    pump: Pump

    cursor: Cursor = _BEGINNING
    """The position of the last message that was read."""

    before: Cursor = _BEGINNING
    """The cursor before the last read."""

    watches: bool = False
    """True if it reads the topic of events beside other watches, without a lease."""

    heard: int = 0
    """The number of notifications for its own mailbox since the last read began; one per message."""

    heard_topic: int = 0
    """The same number for the topic."""

    unsure: bool = True
    """True while there may be more to read than was heard of, and the lease may be beyond the cursor."""

    unreachable: bool = False
    """True if it was ended because the database was out of reach."""

    @property
    def resume_cursor(self) -> Cursor:
        """The cursor at the start of the next stream, once this one has been stopped."""
        return self.before if self.pump.discarded else self.cursor

    def ring(self, notified: bool) -> None:  # noqa: FBT001 - a doorbell's callback
        """Look again: a message was appended to the session's own mailbox, or may have been."""
        self.heard += 1
        self._look(notified)

    def ring_topic(self, notified: bool = False) -> None:  # noqa: FBT001, FBT002 - a doorbell's callback
        """Look again: a message was appended to the topic, or may have been appended to either."""
        self.heard_topic += 1
        self._look(notified)

    def _look(self, notified: bool) -> None:  # noqa: FBT001 - as above
        self.unsure = self.unsure or not notified
        self.pump.ring()


@dataclass(frozen=True, slots=True)
class OpenStreams:
    """The streams that are open now, in the form of the statements about all of them."""

    ids: list[str]
    """The ids of the streams with a lease."""

    holders: list[str]
    """The holders of the same leases."""

    watches: list[str]
    """The holders of the watches."""

    watches_cursors: list[str]
    """The watches' cursors, as text: the driver would look up the type `bigint[]`."""

    @classmethod
    def of(cls, streams: Iterable[HeldStream]) -> Self:
        """Return the streams that still read."""
        reading = [stream for stream in streams if not stream.pump.finished]
        leases = [stream for stream in reading if not stream.watches]
        watches = [stream for stream in reading if stream.watches]
        return cls(
            ids=[stream.id for stream in leases],
            holders=[stream.holder for stream in leases],
            watches=[stream.holder for stream in watches],
            watches_cursors=[str(stream.cursor.own) for stream in watches],
        )

    @property
    def all_holders(self) -> set[str]:
        """The holders of all open streams."""
        return {*self.holders, *self.watches}

    def arguments(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """Return the parameters of the statements `heartbeat` and `news`, from `$1` to `$4`."""
        return self.ids, self.holders, self.watches, self.watches_cursors
