"""Streams that wait until no other connection of their session has the stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Turns"]


class Turns:
    """The waiting streams of this process, by address."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Event, None]] = {}

    @property
    def ids(self) -> list[str]:
        """The addresses that have a waiting stream."""
        return list(self._waiting)

    async def wait(self, id: str, claim: Callable[[], Awaitable[bool]]) -> None:
        """Call `claim` now, and each time that the stream may be free, until it returns true."""
        turn = asyncio.Event()
        self._waiting.setdefault(id, {})[turn] = None
        try:
            while not await claim():
                await turn.wait()
                turn.clear()
        finally:
            del self._waiting[id][turn]
            if not self._waiting[id]:
                del self._waiting[id]

    def wake(self, id: str) -> None:
        """Let the stream that has waited longest at this address try to claim it."""
        if turns := self._waiting.get(id):
            next(iter(turns)).set()
