"""The pump: moves a stream's rows to its controller.

One pump per open stream, in a task of the manager that owns it. It reads until nothing is left, sleeps until
the doorbell rings, and reads again. The bell says «look again» and nothing else: every written event was read
from the store, after the stream's cursor.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.sessions.records import CloseReason, NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.sessions.records import StoredEvent, StreamController

__all__ = ["Page", "Pump", "Turns"]

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_LAST_WRITE_SECONDS = 2.0
"""The time that a stream that must end has to finish its current write."""

_LAST_READ_SECONDS = 1.0
"""The time that a stream that has ended has to finish its current read."""


@dataclass(frozen=True, slots=True)
class Page:
    """The result of one read."""

    events: Sequence[StoredEvent]
    more: bool = False
    """True if there may be more to read already."""

    missed: int = 0
    """The number of messages before these that have expired unread."""


class Pump:
    """One open stream of this process.

    `read` returns the next events and moves the stream's cursor over them in the same step. If the stream is
    no longer this holder's, it returns the reason. The events of a read are this holder's to write, even if
    another holder takes the stream over afterwards: so a write under way is finished before the stream ends.
    """

    def __init__(
        self, controller: StreamController, read: Callable[[], Awaitable[Page | CloseReason]]
    ) -> None:
        self.controller = controller
        self._bell = asyncio.Event()
        self._read = read
        self._ending: CloseReason | None = None
        self._closed = False
        self._reading = False
        self._task: asyncio.Task[None] | None = None
        self.discarded = False
        """True if the last read is not written: the stream was stopped, or its client left, meanwhile."""

    @property
    def finished(self) -> bool:
        """True if nothing is read any more."""
        return self._task is None or self._task.done()

    def start(self, cursor: str) -> None:
        """Begin to read behind the cursor; the first read does not wait for the bell."""
        self._bell.set()
        self._task = asyncio.get_running_loop().create_task(self._run(cursor))

    def ring(self) -> None:
        """Look again. May be called from a driver's callback."""
        self._bell.set()

    def close(self, reason: CloseReason) -> None:
        """End the stream from the manager's side, after the write that is under way."""
        if self._ending is None:
            self._ending = reason
            self._bell.set()
            asyncio.get_running_loop().call_later(_LAST_WRITE_SECONDS, self.cut_off)

    def abort(self, reason: CloseReason) -> None:
        """End the stream from the manager's side, at once."""
        self._ending = reason
        self.cut_off()

    def cut_off(self) -> None:
        """End the stream at once, for the reason that `close` gave, if it has not ended yet.

        A controller that was superseded in the middle of a read or a write gets `CUT_OFF` as the reason: its
        client has not received everything, and has to come back for the rest.
        """
        reason = self._ending or CloseReason.SHUTDOWN
        if self._task is not None and not self._task.done():
            self._task.cancel()
            if reason is CloseReason.SUPERSEDED:
                reason = CloseReason.CUT_OFF
        self._close_controller(reason)

    async def stop(self) -> None:
        """End the pump from the controller's side: nothing is written after the return."""
        self._closed = True
        if self._task is None or self._task is asyncio.current_task():
            return
        if self._reading:
            # A read that is cancelled may have been committed, and it takes its connection along.
            await asyncio.wait([self._task], timeout=_LAST_READ_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _close_controller(self, reason: CloseReason) -> None:
        if not self._closed:
            self._closed = True
            self.controller.close(reason)

    async def _run(self, cursor: str) -> None:
        try:
            await self.controller.opened(cursor)
            while self._ending is None and not self._closed:
                await self._bell.wait()
                self._bell.clear()
                if self._ending is None:
                    await self._read_and_write()
        except Exception:
            logger.exception("a stream ended because its events could not be read or written")
            self._ending = CloseReason.UNAVAILABLE
        self._close_controller(self._ending or CloseReason.SHUTDOWN)

    async def _read_and_write(self) -> None:
        self._reading = True
        try:
            outcome = await self._read()
        except StoreUnavailableError as error:
            # The doorbell rings when the store is back, or ends the stream when that takes too long.
            logger.debug("a stream waits for the store: %s", error)
            # The read may have committed although its reply was lost; the store then reports no news, so
            # look again.
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._bell.set)
            return
        except asyncio.CancelledError:
            self.discarded = True
            raise
        finally:
            self._reading = False
        if self._closed:
            self.discarded = True
            return
        if isinstance(outcome, CloseReason):
            self._ending = outcome
            return
        if outcome.more:
            self._bell.set()
        if outcome.missed:
            await self.controller.missed(outcome.missed)
        if outcome.events:
            await self._write(outcome.events)

    async def _write(self, events: Sequence[StoredEvent]) -> None:
        try:
            await self.controller.write(events)
        except NotWrittenError:
            # The controller has ended, and is about to release the stream.
            self.discarded = self._closed = True


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
