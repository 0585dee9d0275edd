"""The contract for events that concern every instance, and its in-memory implementation."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tmcp_serverless.closable import Store
from tmcp_serverless.sessions.pump import Page, Pump
from tmcp_serverless.sessions.records import CloseReason, StoredEvent, refuse_nul

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["EventTopic", "InMemoryEventTopic"]

_PAGE_EVENTS = 64


@runtime_checkable
class EventTopic(Protocol):
    """One topic with any number of readers: the events that listen streams of 2026-07-28 are told of.

    It is independent of the sessions' mailboxes, and may be in another store.

    Both methods raise `StoreUnavailableError` when the store cannot be reached (retrying later may work), and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured.
    """

    async def publish(self, data: str) -> None:
        """Append an event, JSON text, for everything that watches, on any instance.

        When it returns, the event is committed, unless no controller has ever watched. It may have been
        committed when it raises.

        Raises:
            ValueError: The event has a NUL character, which JSON text cannot have.

        """
        ...

    def watch(self, controller: StreamController) -> AbstractAsyncContextManager[None]:
        """Write to the controller, in order, every event from entering the context until leaving it.

        Any number of controllers may watch, on any instance, and nothing is kept for absent ones. After the
        end of the context nothing is written. A watch that the store can no longer serve is closed with its
        reason, and its context is left as usual.
        """
        ...


class InMemoryEventTopic(Store):
    """A topic in the memory of one process.

    Args:
        most_waiting: The most events that wait for one controller. The oldest are dropped, and it is told.

    """

    def __init__(self, *, most_waiting: int = 10_000) -> None:
        self._most_waiting = most_waiting
        self._watches: set[_Watch] = set()

    async def publish(self, data: str) -> None:
        """Append an event for each watch."""
        refuse_nul(data)
        for watch in self._watches:
            watch.append(data)

    @asynccontextmanager
    async def watch(self, controller: StreamController) -> AsyncGenerator[None]:
        """Write every event to the controller from now on."""
        watch = _Watch(controller, self._most_waiting)
        self._watches.add(watch)
        try:
            yield
        finally:
            self._watches.discard(watch)
            await watch.pump.stop()

    async def aclose(self) -> None:
        """End every watch."""
        while self._watches:
            self._watches.pop().pump.abort(CloseReason.SHUTDOWN)


class _Watch:
    """The events that wait for one controller."""

    def __init__(self, controller: StreamController, most: int) -> None:
        self._waiting = deque[StoredEvent](maxlen=most)
        self._number = 0
        self._missed = 0
        self.pump = Pump(controller, self._read)
        self.pump.start("0")

    def append(self, data: str) -> None:
        self._number += 1
        self._missed += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(StoredEvent(data, str(self._number)))
        self.pump.ring()

    async def _read(self) -> Page:
        count = min(_PAGE_EVENTS, len(self._waiting))
        events = [self._waiting.popleft() for _ in range(count)]
        missed, self._missed = self._missed, 0
        return Page(events, more=bool(self._waiting), missed=missed)
