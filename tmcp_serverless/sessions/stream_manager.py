"""The contract for live streams."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tmcp_serverless.sessions.ids import mint_session_id
from tmcp_serverless.sessions.manager import SessionManager
from tmcp_serverless.sessions.records import StoredEvent
from tmcp_serverless.sessions.send_order import SendOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["StreamSessionManager"]

logger = logging.getLogger(__name__)

_NO_PLACE = "0"
"""The cursor of an event that no mailbox holds."""


_LOOK_SECONDS = 5.0
"""The interval at which the default `stand_by` checks if the stream is free."""


class StreamSessionManager(SessionManager, ABC):
    """Carries messages to the one stream that a session has open, on any instance.

    Delivery: when `send` has returned, its message is delivered in order and once, to the stream that is open
    or to the next one, as long as the message is retained. An id with a slash names a private mailbox
    (`sessions.ids`): broadcasts do not reach it, and it is deleted with its session.

    Every method raises `StoreUnavailableError` when the store cannot be reached (retrying later may work) and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured. `send`, `append`, `deliver`
    and `publish` may have been committed when they raise. They raise `ValueError` if the message has a NUL
    character, which JSON text cannot have. `delete` raises it if the id is no session's: it is empty, or
    begins with a slash.
    """

    @cached_property
    def send_order(self) -> SendOrder:
        """The order of the messages that transports and notifiers of this process send through this manager.

        It is the order of their calls. Calls of `send` and `deliver` by other code are not in it.
        """
        return SendOrder()

    @abstractmethod
    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller, at once, from any holder.

        From the return on, everything that was and will be sent to `id` after the cursor `after` (default:
        everything not yet delivered) is written to the controller, in order, until the stream is released,
        deleted or superseded. The previous holder is closed and writes nothing that it has not read already.

        Raises:
            InvalidCursorError: `after` is no cursor of this manager.

        """

    async def stand_by(
        self, id: str, controller: StreamController, *, after: str | None = None, at_once: bool = False
    ) -> None:
        """Claim the session's stream for this controller as soon as no controller holds it; wait until then.

        The stream continues behind the last holder. Of several waiting controllers one gets the stream; a
        `create` that comes first is not disturbed. If cancelled, it has claimed nothing. With `at_once` it
        does not wait, and takes the stream from any holder.

        `after` is the cursor behind the last event that the client was given. It is not given events up to
        there again, though another controller may have begun further back.

        The default asks `has` every 5 seconds, and calls `create`: if two do that at once, the later one
        has the stream, and the other is closed as superseded.

        Raises:
            InvalidCursorError: `after` is no cursor of this manager.

        """
        del after
        while not at_once and await self.has(id):  # noqa: ASYNC110 - another process may have it
            await asyncio.sleep(_LOOK_SECONDS)
        await self.create(id, controller)

    @abstractmethod
    async def delete(self, id: str) -> None:
        """End the stream on any instance, and delete the session's messages. Idempotent, from any process."""

    @abstractmethod
    async def has(self, id: str) -> bool:
        """Return true if a live stream exists: its lease was refreshed in the last 10 seconds."""

    @abstractmethod
    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append a message, JSON text, for the given sessions: `None` is every session, `[]` is none.

        When it returns, the message is committed: it is delivered even if processes die afterwards.

        Raises:
            ValueError: `sessions` is one string and not a list of ids, or the message has a NUL character.

        """

    async def append(self, id: str, data: str, *, after: str | None = None) -> str | None:
        """Append a message to one mailbox and return its cursor.

        `after` is the cursor of the message before it, given by the mailbox's only writer. With it, that
        writer may append the same message again when the first result is unknown: that changes nothing.

        The default sends the message and returns `None`: the events streamed from a request's own mailbox
        then carry no event id, and the stream cannot be resumed.
        """
        del after
        await self.send([id], data)
        return None

    async def deliver(self, id: str, data: str) -> bool:
        """Append a message to a mailbox that exists already; return false if there is none.

        The default sends the message and returns true: a store that cannot tell keeps it until it expires.
        """
        await self.send([id], data)
        return True

    async def interrupt(self, id: str) -> None:
        """End the session's stream on any instance. Nothing is deleted, and the client comes back."""

    async def prepare(self, id: str) -> None:
        """Begin the session: broadcasts from here on are for it, with or without a stream.

        The default does nothing: a session's broadcasts begin when `send` or `create` first sees its id.
        """

    async def release(self, id: str, controller: StreamController) -> None:
        """Release this controller's stream, which has ended by itself, as when the client went away.

        Does nothing to a stream that another controller has taken over since. The default deletes the
        session's stream, and undelivered messages with it: the abstract methods offer nothing else. It
        leaves the stream alone if the controller says that it is `superseded`.
        """
        self._watchers.pop(id, None)
        if not getattr(controller, "superseded", False):
            await self.delete(id)

    async def watch(self, controller: StreamController) -> str:
        """Read the messages for all instances, from now on: broadcasts, and those given to `publish`.

        Any number of controllers may watch, on any instance, and nothing is kept for absent watchers. Returns
        the address to `release` at the end. The default opens a stream that belongs to no session. It hears
        broadcasts, and the messages given to the default `publish` in this process. Override both, or
        neither.
        """
        address = mint_session_id()
        await self.create(address, controller)
        self._watchers[address] = controller
        return address

    async def publish(self, data: str) -> None:
        """Append a message for all watchers: one row and one wake-up for any number of them.

        When it returns, the message is committed, unless no controller has watched yet. The default tells
        the watchers of this manager in this process, and no others.
        """
        if "\0" in data:
            raise ValueError("a message has a NUL character, which JSON text cannot have")
        for controller in list(self._watchers.values()):
            try:
                await controller.write([StoredEvent(data, _NO_PLACE)])
            except Exception:
                logger.exception("a watcher raised; the others hear on")

    @property
    def has_topic(self) -> bool:
        """True if `publish` reaches watchers in other processes: a subclass overrides it and `watch`."""
        own = type(self)
        return own.publish is not StreamSessionManager.publish and own.watch is not StreamSessionManager.watch

    @property
    def _watchers(self) -> WeakValueDictionary[str, StreamController]:
        """The watchers of the default `watch`. Subclasses need not call an initializer of this class."""
        return vars(self).setdefault("_default_watchers", WeakValueDictionary())

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired rows of each kind, and return the number removed."""
        del limit
        return 0
