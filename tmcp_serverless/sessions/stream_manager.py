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
"""How often the default of `stand_by` looks if the stream is free."""


class StreamSessionManager(SessionManager, ABC):
    """Carries messages to the one stream that a session has open, on whatever instance that is.

    Delivery: what `send` returned for is delivered in order and once, to the stream that is open or to the
    next one, as long as it is retained. An id with a slash names a private mailbox (`sessions.ids`):
    broadcasts do not reach it, and it is deleted with its session.

    Every method raises `StoreUnavailableError` when the store cannot be reached (retrying later may work) and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured. `send`, `append`, `deliver`
    and `publish` may have been committed when they raise. They raise `ValueError` where the message has a NUL
    character, which JSON text cannot have; so does `delete` where the id is no session's: it is empty, or
    begins with a slash.
    """

    @cached_property
    def send_order(self) -> SendOrder:
        """The order of what transports and notifiers of this process send through this manager.

        It is that of their calls. Calls of `send` and `deliver` by others are not in it.
        """
        return SendOrder()

    @abstractmethod
    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller, at once, from whoever holds it.

        From the return on, everything that was and will be sent to `id` after the cursor `after` (default:
        everything not yet delivered) is written to the controller, in order, until the stream is released,
        deleted or superseded. The previous holder is closed and writes nothing that it has not read already.

        Raises:
            InvalidCursorError: `after` is no cursor of this manager.

        """

    async def stand_by(self, id: str, controller: StreamController) -> None:
        """Claim the session's stream for this controller as soon as no controller holds it; wait until then.

        It continues where the last holder stopped. Of several that wait one gets the stream; a `create` that
        comes first is not disturbed. Cancelled, it has claimed nothing.

        The default asks `has` every 5 seconds, and calls `create`: where two do that at once, the later one
        has the stream, and the other is closed as superseded.
        """
        while await self.has(id):  # noqa: ASYNC110 - another process may have it
            await asyncio.sleep(_LOOK_SECONDS)
        await self.create(id, controller)

    @abstractmethod
    async def delete(self, id: str) -> None:
        """End the stream wherever it is, and forget the session's messages. Idempotent, from any process."""

    @abstractmethod
    async def has(self, id: str) -> bool:
        """Return whether a live stream exists: one whose lease was refreshed in the last 10 seconds."""

    @abstractmethod
    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append a message, JSON text, for the given sessions; `None` is every session, `[]` is nobody.

        When it returns, the message is committed: it is delivered whatever dies afterwards.

        Raises:
            ValueError: `sessions` is one string and not a list of ids, or the message has a NUL character.

        """

    async def append(self, id: str, data: str, *, after: str | None = None) -> str | None:
        """Append a message to one mailbox and return its cursor.

        `after` is the cursor of the message before it, given by the mailbox's only writer: with it, appending
        the same message again, because nobody knows whether the first time worked, changes nothing.

        The default sends it and returns `None`: what is streamed from a request's own mailbox then carries no
        event id, and cannot be resumed.
        """
        del after
        await self.send([id], data)
        return None

    async def deliver(self, id: str, data: str) -> bool:
        """Append a message to a mailbox that exists already; false where there is none.

        The default sends it: a store that cannot tell keeps it until it expires.
        """
        await self.send([id], data)
        return True

    async def interrupt(self, id: str) -> None:
        """End the session's stream wherever it is; nothing is forgotten, and the client comes back."""

    async def prepare(self, id: str) -> None:
        """Say that the session begins now: broadcasts from here on are for it, stream or not.

        The default does nothing: a session's broadcasts begin where `send` and `create` know it first.
        """

    async def release(self, id: str, controller: StreamController) -> None:
        """Say that this controller's stream has ended by itself, as when the client went away.

        Does nothing to a stream that another controller has taken over since. The default deletes the
        session's stream, which is all that the abstract methods offer, and with it what was not delivered;
        it leaves the stream alone where the controller says that it is `superseded`.
        """
        self._watchers.pop(id, None)
        if not getattr(controller, "superseded", False):
            await self.delete(id)

    async def watch(self, controller: StreamController) -> str:
        """Read what concerns everybody, from now on: broadcasts, and what is given to `publish`.

        Any number may watch, on any instance, and nothing is kept for those who are away. Returns the address
        to `release` when it is over. The default opens a stream of nobody's session, which hears broadcasts,
        and hears what the default `publish` is given in this process. Override both, or neither.
        """
        address = mint_session_id()
        await self.create(address, controller)
        self._watchers[address] = controller
        return address

    async def publish(self, data: str) -> None:
        """Append a message for those who watch: one row and one ring, however many they are.

        When it returns, the message is committed, unless nobody has watched yet. The default tells the
        watchers of this manager in this process, and nobody else.
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
        """Whether `publish` reaches those who watch in other processes: both are a subclass's own."""
        own = type(self)
        return own.publish is not StreamSessionManager.publish and own.watch is not StreamSessionManager.watch

    @property
    def _watchers(self) -> WeakValueDictionary[str, StreamController]:
        """The watchers of the default `watch`. Subclasses need not call an initializer of this class."""
        return vars(self).setdefault("_default_watchers", WeakValueDictionary())

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired rows of each kind, and return how many went."""
        del limit
        return 0
