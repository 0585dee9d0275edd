"""The pace of looking for news if nothing rings."""

from __future__ import annotations

import time

__all__ = ["Pace"]

_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0
_SLOWING = 1.5
"""A look that finds nothing makes the time to the next look this many times as long."""


class Pace:
    """The time between two looks: short while there is news, and longer with every look that finds none."""

    def __init__(self) -> None:
        self.seconds = _SHORTEST_SECONDS
        """The time to wait before the next look, unless a stream hurries it."""

        self._looked_at = 0.0

    @property
    def least_seconds(self) -> float:
        """The time to wait before the next look in any case."""
        return max(0.0, self._looked_at + _SHORTEST_SECONDS - time.monotonic())

    def hurry(self) -> None:
        """Set the time to the next look to the shortest."""
        self.seconds = _SHORTEST_SECONDS

    def looked(self) -> None:
        """Note that a look has ended."""
        self._looked_at = time.monotonic()

    def found(self, news: bool) -> None:  # noqa: FBT001 - the result of a look
        """Set the time to the next look: the shortest after news, else a longer one."""
        self.seconds = _SHORTEST_SECONDS if news else min(self.seconds * _SLOWING, _LONGEST_SECONDS)
