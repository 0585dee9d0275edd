"""Polling: the silent half of the doorbell, for databases where LISTEN hears nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import asyncpg

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.postgres.database import Connection

__all__ = ["PollInterval", "Polling"]

logger = logging.getLogger(__name__)

_LOOK_LIMIT_SECONDS = 7.0
_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 2.0
_SLOWING = 1.5
"""A look that finds nothing makes the time to the next look this many times as long."""


class PollInterval:
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


class Polling:
    """Looks for news for all streams of the process in one statement, and ticks in between.

    Args:
        tick: Called every `tick_seconds`, with no connection.
        look: Wakes the streams with news; true if there are any.
        tick_seconds: The time between two ticks.

    """

    def __init__(
        self,
        *,
        tick: Callable[[Connection | None], Awaitable[None]],
        look: Callable[[], Awaitable[bool]],
        tick_seconds: float,
    ) -> None:
        self.interval = PollInterval()
        """The time between two looks."""

        self._tick = tick
        self._look = look
        self._tick_seconds = tick_seconds
        self._ticked_at = 0.0

    async def poll(self) -> bool:
        """Look for news, or tick if that is due. Return true if the database answered."""
        try:
            # Longer than a statement may take: a statement on a dead link has to fail by itself. If it is cut
            # off instead, the other idle connections, as dead, are tried one after the other.
            async with asyncio.timeout(_LOOK_LIMIT_SECONDS):
                await self._tick_or_look()
        except (TimeoutError, asyncpg.PostgresError, TmcpError) as error:
            logger.debug("the doorbell could not look: %r", error)
            return False
        finally:
            self.interval.looked()
        return True

    async def _tick_or_look(self) -> None:
        if time.monotonic() - self._ticked_at >= self._tick_seconds:
            await self._tick(None)
            self._ticked_at = time.monotonic()
        else:
            self.interval.found(await self._look())
