"""How often to look for news where nothing rings."""

from __future__ import annotations

import time

__all__ = ["Pace"]

_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0
_SLOWING = 1.5
"""By how much the next look is later when the last one found nothing."""


class Pace:
    """The time between two looks: short while there is news, and longer with every look that finds none."""

    def __init__(self) -> None:
        self.seconds = _SHORTEST_SECONDS
        """How long to wait before the next look, unless somebody wants to know sooner."""

        self._looked_at = 0.0

    @property
    def least_seconds(self) -> float:
        """How long to wait before the next look whoever wants to know."""
        return max(0.0, self._looked_at + _SHORTEST_SECONDS - time.monotonic())

    def hurry(self) -> None:
        """Look soon again."""
        self.seconds = _SHORTEST_SECONDS

    def looked(self) -> None:
        """Note that a look has ended."""
        self._looked_at = time.monotonic()

    def found(self, news: bool) -> None:  # noqa: FBT001 - what a look returned
        """Go on as the last look suggests."""
        self.seconds = _SHORTEST_SECONDS if news else min(self.seconds * _SLOWING, _LONGEST_SECONDS)
