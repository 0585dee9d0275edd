"""The sandboxes of a function: idle ones first, new ones if there is none, up to the concurrency limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.dev.lambda_emulator.sandbox import Sandbox

__all__ = ["Pool", "ThrottledError"]

_SETTLING_SECONDS = 0.1
"""Seconds that a request waits for a sandbox that has answered and is about to be free, before another
starts."""

_THROTTLED_SECONDS = 1.0
"""Seconds that a request waits if no other sandbox may start."""


class ThrottledError(TmcpError):
    """All sandboxes are busy, and there may be no more."""


class Pool:
    """Up to `limit` sandboxes. `new` makes a sandbox from a name."""

    def __init__(self, new: Callable[[str], Sandbox], *, limit: int) -> None:
        self.sandboxes: list[Sandbox] = []
        """All sandboxes with a live process, oldest first."""

        self._new = new
        self._limit = limit
        self._idle: list[Sandbox] = []
        self._freed = asyncio.Condition()
        self._made = 0
        self._closed = False

    async def take(self) -> Sandbox:
        """Return a sandbox that is in no other use: the last used one, or a new one.

        Raises:
            ThrottledError: There is none.
            InitializationError: A new one did not come up.
        """
        try:
            async with self._freed, asyncio.timeout(self._patience()):
                await self._freed.wait_for(lambda: self._idle)
                return self._idle.pop()
        except TimeoutError:
            if len(self.sandboxes) >= self._limit:
                raise ThrottledError(f"all {self._limit} sandboxes are busy") from None
        sandbox = await self._start()
        if self._closed:
            await sandbox.kill()
            raise ThrottledError("the function is being shut down")
        return sandbox

    async def give_back(self, sandbox: Sandbox) -> None:
        """Take a sandbox back; it is forgotten if its process has ended."""
        async with self._freed:
            if sandbox.pid is not None:
                self._idle.append(sandbox)
            elif sandbox in self.sandboxes:
                self.sandboxes.remove(sandbox)
            self._freed.notify()

    async def shut_down(self) -> None:
        """End all sandboxes, side by side; there will be no others."""
        self._closed = True
        await asyncio.gather(*(each.shut_down() for each in self.sandboxes))
        self.sandboxes.clear()
        self._idle.clear()

    async def _start(self) -> Sandbox:
        self._made += 1
        sandbox = self._new(str(self._made))
        self.sandboxes.append(sandbox)
        try:
            await sandbox.start()
        except BaseException:
            if sandbox in self.sandboxes:
                self.sandboxes.remove(sandbox)
            await sandbox.kill()
            raise
        return sandbox

    def _patience(self) -> float:
        if self._idle or len(self.sandboxes) >= self._limit:
            return _THROTTLED_SECONDS
        settling = any(each.current is not None and each.current.ended for each in self.sandboxes)
        return _SETTLING_SECONDS if settling else 0.0
