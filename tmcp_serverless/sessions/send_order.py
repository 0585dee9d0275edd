"""The order of one process's sends: the order of the calls, though each takes its own connection."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType

    from tmcp_serverless.sessions.records import Json

__all__ = ["CALLS", "SendOrder", "Turn"]

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""The longest that a send waits for those before it. A store that hangs delays nothing for longer."""

CALLS = "/calls"
"""The key for calls whose mailboxes are not known yet."""


class SendOrder:
    """Gives sends their turns: for each mailbox in the order of the `take` calls.

    Nothing is kept for a mailbox without sends under way.
    """

    def __init__(self) -> None:
        self._last: dict[str, Turn] = {}

    def __len__(self) -> int:
        """Return the number of mailboxes that have sends under way."""
        return len(self._last)

    def take(self, *keys: str) -> Turn:
        """Take a place in line for these mailboxes, behind every turn that was taken before."""
        return Turn(self._last, keys)

    @contextmanager
    def reserved(
        self, *keys: str, send: Callable[[Json], Awaitable[None]]
    ) -> Generator[Callable[[Json], Awaitable[None]]]:
        """Take a place now for a message that is sent later, with the function that this yields.

        Any further message that the function is given has a place of its own.
        """
        places = [self.take(*keys)]

        async def deliver(message: Json) -> None:
            with places.pop() if places else self.take(*keys) as turn:
                await turn.come()
                await send(message)

        try:
            yield deliver
        finally:
            for place in places:
                place.leave()


class Turn:
    """One send's place in line, from `take` until `leave`, even if its turn never came.

    Args:
        last: The last turn of each mailbox.
        keys: The mailboxes.

    """

    __slots__ = ("_before", "_ended", "_is_over", "_keys", "_last")

    def __init__(self, last: dict[str, Turn], keys: tuple[str, ...]) -> None:
        self._last = last
        self._keys = keys if len(keys) == 1 else frozenset(keys)
        self._is_over = False
        self._ended: asyncio.Event | None = None
        self._before: list[Turn] = []
        for key in self._keys:
            before = last.get(key)
            if before is not None and (not self._before or before is not self._before[-1]):
                self._before.append(before)
            last[key] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def come(self) -> None:
        """Wait until every turn before this one is over."""
        if not self._before:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._before:
                    await self._before[-1]._wait()  # noqa: SLF001 - its own class
                    self._before = self._under_way()
        except TimeoutError:
            logger.warning("a message is sent out of turn: the one before it takes too long")
            self._before.clear()

    def leave(self) -> None:
        """Let the turns behind go on; if this turn had not come, behind those before it. Idempotent."""
        if self._is_over:
            return
        self._is_over = True
        if self._before:
            self._before = self._under_way()
        for key in self._keys:
            if self._last.get(key) is self:
                del self._last[key]
                # This turn had not come: the turns behind it wait for those before it.
                for turn in self._before:
                    if key in turn._keys:  # noqa: SLF001 - its own class
                        self._last[key] = turn
        if self._ended is not None:
            self._ended.set()

    def _under_way(self) -> list[Turn]:
        """Return the turns before this one that are not over, the latest last."""
        found: dict[Turn, None] = {}
        looked_at = list(self._before)
        while looked_at:
            turn = looked_at.pop()
            if turn._is_over:  # noqa: SLF001 - its own class
                looked_at.extend(turn._before)  # noqa: SLF001 - the same
            else:
                found[turn] = None
        return [*reversed(found)]

    async def _wait(self) -> None:
        if not self._is_over:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
