"""What is sent while things break: to one session, to several, to all, and in bursts; and tool calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.adversity.calls import Calls
    from tests.adversity.ledger import Ledger, Sending
    from tests.adversity.listener import Listener
    from tmcp_serverless import Notifier

__all__ = ["Load"]

_BURSTS = 0.02
"""Of so many messages one is the first of a burst that is longer than a page of the reader (64 rows)."""

_BURST_MESSAGES = (70, 140)
_ATTEMPTS = 100_000
_AFTER_FAILURE_SECONDS = 0.2


class Load:
    """Senders and callers.

    Args:
        listeners: The sessions whose streams are held; it may grow.
        joining: The sessions that are being initialized just now.
        notifier: Sends, on a connection of its own that no fault of the network touches.
        calls: Makes tool calls.
        ledger: Where everything is written down.
        rate: How many events per second there are, about.
        longest_step_seconds: How long a step of a call that lasts may take. The run ends with its calls.
        seeded: Returns a random generator for a name.

    """

    def __init__(
        self,
        listeners: list[Listener],
        joining: list[int],
        *,
        notifier: Notifier,
        calls: Calls,
        ledger: Ledger,
        rate: float,
        longest_step_seconds: float,
        seeded: Callable[[str], Random],
    ) -> None:
        self._listeners = listeners
        self._joining = joining
        self._notifier = notifier
        self._calls = calls
        self._ledger = ledger
        self._rate = rate
        self._longest_step_seconds = longest_step_seconds
        self._seeded = seeded
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Send and call until `stopping` is set."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send("one", 0.2, most=1, bursts=_BURSTS))
            group.create_task(self._send("two", 0.2, most=1, bursts=0))
            group.create_task(self._send("few", 0.1, most=4, bursts=0))
            group.create_task(self._send("all", 0.05, most=0, bursts=0))
            for name in ("calls 1", "calls 2", "calls 3"):
                group.create_task(self._call(name))

    async def send(self, sender: str, listeners: list[Listener] | None) -> bool:
        """Send one message; `None` is a broadcast. Return whether it is known to be committed."""
        chosen = [*self._listeners] if listeners is None else listeners
        joining = tuple(self._joining) if listeners is None else ()
        sending = self._ledger.begin(sender, tuple(each.index for each in chosen), joining)
        return await self._commit(sending, None if listeners is None else [each.id for each in listeners])

    async def greet(self, listener: Listener) -> None:
        """Send a message to a session that may lose it, for it has no event id to resume from."""
        await self._commit(self._ledger.begin("hello", (), (listener.index,)), [listener.id])

    async def _commit(self, sending: Sending, ids: list[str] | None) -> bool:
        try:
            await self._notifier.send(ids, sending.notification())
        except StoreUnavailableError:
            return False
        self._ledger.committed(sending)
        return True

    async def _send(self, sender: str, share: float, *, most: int, bursts: float) -> None:
        """Send `share` of the rate, each message to at most so many sessions; 0: to all."""
        rng = self._seeded(f"sender {sender}")
        for _ in range(_ATTEMPTS):
            if await self._pause(rng.uniform(0.2, 1.8) / (self._rate * share)):
                return
            count = rng.randint(1, most) if most else 0
            chosen = rng.sample(self._listeners, min(count, len(self._listeners))) if most else None
            for _ in range(rng.randint(*_BURST_MESSAGES) if rng.random() < bursts else 1):
                if not await self.send(sender, chosen):
                    await self._pause(_AFTER_FAILURE_SECONDS)
                    break

    async def _call(self, name: str) -> None:
        rng = self._seeded(name)
        for _ in range(_ATTEMPTS):
            listener = rng.choice(self._listeners)
            steps, lasting = rng.randint(0, 8), rng.random() < 0.15
            shortest, longest = (0.5, self._longest_step_seconds) if lasting else (0.0, 0.3)
            pause_seconds = rng.uniform(shortest, longest)
            await self._calls.call(listener.index, listener.id, steps=steps, pause_seconds=pause_seconds)
            if await self._pause(rng.uniform(0, 30) / self._rate):
                return

    async def _pause(self, seconds: float) -> bool:
        """Wait, and return whether it is time to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True
