"""A stream that this process holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.sessions.cursors import Cursor
    from tmcp_serverless.sessions.pump import Pump

__all__ = ["HeldStream"]


@dataclass(slots=True)
class HeldStream:
    """One open stream of this process."""

    id: str
    holder: str
    pump: Pump

    cursor: Cursor
    """How far it has been read."""

    last: Cursor
    """What both mailboxes had reached when the stream was claimed."""

    own_only: bool = False
    """Whether only its own mailbox was heard of since the last read."""

    def ring(self) -> None:
        """Look again: something was appended to the session's own mailbox."""
        self.pump.ring()

    def ring_wide(self) -> None:
        """Look again, at the topic too."""
        self.own_only = False
        self.pump.ring()
