"""How often to look for news where nothing rings."""

from __future__ import annotations

__all__ = ["Pace"]

_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0
_SLOWING = 1.5
"""By how much the next look is later when the last one found nothing."""


class Pace:
    """The time between two looks: short while there is news, and longer with every look that finds none."""

    def __init__(self) -> None:
        self.seconds = _SHORTEST_SECONDS
        """How long to wait before the next look."""

    def hurry(self) -> None:
        """Look soon again."""
        self.seconds = _SHORTEST_SECONDS

    def found(self, news: bool) -> None:  # noqa: FBT001 - what a look returned
        """Go on as the last look suggests."""
        self.seconds = _SHORTEST_SECONDS if news else min(self.seconds * _SLOWING, _LONGEST_SECONDS)
