"""What the servers of one peer saw, and the gates at which their tools wait; one for all its instances."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

__all__ = ["LIMIT_SECONDS", "Notebook"]

LIMIT_SECONDS = 60.0
"""How long a test waits for a condition before it fails."""


class Notebook:
    """Tools and middleware write into it, interactions read it; every interaction has its own page."""

    def __init__(self) -> None:
        self.turn()

    def turn(self) -> None:
        """Begin a new page: nothing seen, every gate closed."""
        self._entries: list[dict[str, Any]] = []
        self._written = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def write(self, **entry: Any) -> None:
        """Add an entry."""
        self._entries.append(entry)
        self._written.set()

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task that outlives the request that started it."""
        self._tasks.add(task)

    def gate(self, name: str) -> asyncio.Event:
        """Return the gate with this name, for a tool to wait at and for an interaction to open."""
        return self._gates[name]

    def about(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of one kind, in the order in which they were written."""
        return [entry for entry in self._entries if entry["kind"] == kind]

    async def until(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many entries of one kind, and return them."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self.about(kind)) < count:
                self._written.clear()
                await self._written.wait()
        return self.about(kind)
