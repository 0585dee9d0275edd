"""What happened when, and when nothing was wrong."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Timeline"]

_ENTRIES = 200_000
_AROUND_SECONDS = 6.0


class Timeline:
    """The run's clock, its notes, and the windows in which a fault was under way.

    All times are seconds since the start. A fault that is over at once (a kill, a cut) is a window without
    length: it ends a calm stretch, and begins the next.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._notes: list[tuple[float, str]] = []
        self._windows: list[tuple[list[float], bool]] = []
        self.faults: list[tuple[float, str]] = []
        self.killed: list[tuple[float, str]] = []
        """When which instance was killed or stopped."""

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def note(self, text: str) -> None:
        """Remember that this happened now."""
        if len(self._notes) < _ENTRIES:
            self._notes.append((self.now(), text))

    @contextmanager
    def fault(self, text: str, *, store_away: bool = False) -> Generator[None]:
        """Surround a fault, until what it broke has been mended from outside.

        `store_away`: the instances cannot reach Postgres while it lasts.
        """
        window = [self.now(), float("inf")]
        self._windows.append((window, store_away))
        self.faults.append((window[0], text))
        self.note(f"FAULT {text}")
        try:
            yield
        finally:
            window[1] = self.now()
            if window[1] - window[0] > 0.1:
                self.note(f"      over: {text} ({window[1] - window[0]:.1f} s)")

    def longest_calm(self, begin: float, end: float) -> float:
        """Return how long the longest stretch between two times was in which no fault was under way."""
        longest, calm_since = 0.0, begin
        for starts, ends in sorted(window for window, _ in self._windows):
            if ends <= begin or starts >= end:
                continue
            longest = max(longest, starts - calm_since)
            calm_since = max(calm_since, ends)
        return max(longest, end - calm_since)

    def store_was_away(self, begin: float, end: float) -> bool:
        """Return whether the instances could not reach Postgres at some time between the two."""
        return any(away and window[0] < end and window[1] > begin for window, away in self._windows)

    def was_killed(self, instance: str, begin: float, end: float) -> bool:
        """Return whether the instance was killed or stopped between the two times."""
        return any(name == instance and begin <= at <= end for at, name in self.killed)

    def text(self) -> str:
        """Return all notes."""
        return "".join(f"{at:8.3f} s  {text}\n" for at, text in self._notes)

    def last_fault(self, before: float) -> str:
        """Return the fault that began last before a time."""
        earlier = [(at, text) for at, text in self.faults if at <= before]
        return f"{earlier[-1][1]!r} at {earlier[-1][0]:.2f} s" if earlier else "no fault"

    def around(self, begin: float, end: float, *, about: str = "") -> list[str]:
        """Return the notes around a span of time: the faults, and those that mention `about`."""
        first, last = begin - _AROUND_SECONDS, end + _AROUND_SECONDS
        return [
            f"  {at:8.3f} s  {text}"
            for at, text in self._notes
            if first <= at <= last and (text.startswith(("FAULT", "      over")) or about in text)
        ]
