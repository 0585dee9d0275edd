"""Who is to be called when which channel is notified."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Ring", "Rings"]

Ring: TypeAlias = "Callable[[bool], None]"
"""Called with true for each notification of the channel, and with false when some may have been missed."""


class Rings:
    """The rings of each channel that has any."""

    def __init__(self) -> None:
        self._rings: dict[str, set[Ring]] = {}

    def __bool__(self) -> bool:
        return bool(self._rings)

    def __contains__(self, channel: str) -> bool:
        return channel in self._rings

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._rings))

    def add(self, channel: str, ring: Ring) -> bool:
        """Take the ring up; return whether it is the first of its channel."""
        first = channel not in self._rings
        self._rings.setdefault(channel, set()).add(ring)
        return first

    def forget(self, channel: str, ring: Ring) -> None:
        """Call the ring no more."""
        rings = self._rings.get(channel)
        if rings is not None:
            rings.discard(ring)
            if not rings:
                del self._rings[channel]

    def clear(self) -> None:
        """Call nobody any more."""
        self._rings.clear()

    def ring(self, channel: str) -> None:
        """Call those of one channel, which has been notified."""
        for ring in self._rings.get(channel, ()):
            ring(True)

    def ring_all(self) -> None:
        """Call all, because some notifications may have been missed."""
        for rings in self._rings.values():
            for ring in rings:
                ring(False)
