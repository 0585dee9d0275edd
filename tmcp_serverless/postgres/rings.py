"""Callbacks by channel, for notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Door", "Ring", "Rings"]

Ring: TypeAlias = "Callable[[bool], None]"
"""A callback: called with true for each notification of its channel, with false if some may be missing."""

Door: TypeAlias = "tuple[str, Ring]"
"""A channel, and a callback for its notifications."""


class Rings:
    """The rings of each channel."""

    def __init__(self) -> None:
        self._rings: dict[str, set[Ring]] = {}

    def __bool__(self) -> bool:
        return bool(self._rings)

    def __contains__(self, channel: str) -> bool:
        return channel in self._rings

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._rings))

    def add(self, channel: str, ring: Ring) -> bool:
        """Add the ring; return true if it is the first of its channel."""
        first = channel not in self._rings
        self._rings.setdefault(channel, set()).add(ring)
        return first

    def forget(self, channel: str, ring: Ring) -> None:
        """Stop calling the ring."""
        rings = self._rings.get(channel)
        if rings is not None:
            rings.discard(ring)
            if not rings:
                del self._rings[channel]

    def clear(self) -> None:
        """Stop calling all rings."""
        self._rings.clear()

    def ring(self, channel: str) -> None:
        """Call the rings of one channel, after its notification."""
        for ring in self._rings.get(channel, ()):
            ring(True)

    def ring_all(self) -> None:
        """Call all rings, because some notifications may have been missed."""
        for rings in self._rings.values():
            for ring in rings:
                ring(False)
