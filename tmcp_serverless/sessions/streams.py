"""The contract for live streams: a session's mailbox, and the one reader that it has.

Its nouns and verbs are those of TMCP's `session-manager` packages. A subclass with the abstract methods alone
works in every transport. The other methods have defaults over these; they exist so that a store can do in one
round trip the work that takes the defaults several, and so that it can do more.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from tmcp_serverless.closable import Store
from tmcp_serverless.errors import LimitReachedError
from tmcp_serverless.sessions.send_order import SendOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["INBOX_ROWS", "StreamSessionManager", "full_inboxes", "inbox_limits"]

INBOX_ROWS = 1_000
"""The most messages that wait, or have just been read, in all inboxes of a session together."""

_LOOK_SECONDS = 5.0
"""The interval at which the default `stand_by` checks if the stream is free."""


class StreamSessionManager(Store, ABC):
    """Carries messages to the one stream that a session has open, on any instance.

    Delivery: when `send` has returned, its message is delivered in order and once, to the stream that is open
    or to the next one, as long as the message is retained. An id with a slash names a private mailbox
    (`sessions.addresses`): broadcasts do not reach it, and it is deleted with its session.

    Every method raises `StoreUnavailableError` when the store cannot be reached (retrying later may work) and
    `ConfigurationError` or `SchemaError` when it cannot be used as configured. `send` and `append` may
    have been committed when they raise. They raise `ValueError` if the message has a NUL character, which
    JSON text cannot have. `delete` raises it if the id is no session's: it is empty, or begins with a slash.
    """

    can_resume: ClassVar[bool] = False
    """True if `append` is implemented, so that the stream of a request can be resumed."""

    can_release: ClassVar[bool] = False
    """True if `release` is implemented: `has` returns false right after it, and not soon after it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.can_resume = cls.append is not StreamSessionManager.append
        cls.can_release = cls.release is not StreamSessionManager.release

    @cached_property
    def send_order(self) -> SendOrder:
        """The order of the messages that transports and notifiers of this process send through this manager.

        It is the order of their calls. Calls of `send` and `append` by other code are not in it.
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

    async def append(
        self,
        id: str,
        data: str,
        *,
        after: str | None = None,
        create: bool = True,
        siblings: int | None = None,
    ) -> str | None:
        """Append a message to one mailbox and return its cursor.

        `after` is the cursor of the message before it, given by the mailbox's only writer; it is empty before
        the first message. With it, that writer may append the same message again when the first result is
        unknown: that changes nothing.

        `create`: false to append only to a mailbox that is read, or was a moment ago, as the inbox of a
        request that is running. If there is none, nothing is appended and the result is `None`.

        `siblings`: with it, a mailbox is made only if the session has fewer of the same kind: private ones
        with the same address up to the first dot. If it has as many, the result is `None`.

        Neither is given together with `after`.

        Raises:
            LimitReachedError: With `create=False` or `siblings`, the session's mailboxes of the same kind
                hold as much as the manager allows.

        The default sends the message, and returns an empty cursor. A store that cannot tell if there is a
        mailbox keeps the message until it expires.
        """
        del after, create, siblings
        await self.send([id], data)
        return ""

    async def prepare(self, id: str) -> None:
        """Begin the session: broadcasts from here on are for it, with or without a stream.

        The default sends an empty message, so that the store knows the session. Controllers skip empty
        messages.
        """
        await self.send([id], "")

    async def release(self, id: str, controller: StreamController | None = None) -> None:
        """End the session's stream, which keeps its position: nothing is deleted.

        With a controller, only if it still holds the stream, on this instance: its client went away, and
        nothing is written to it after the return. Without one, any holder's, on any instance, which is closed
        as interrupted: its client comes back.

        The default sends an empty message to a controller's stream. It raises `NotWrittenError` in the
        controller of a client that went away: that ends the stream, and no message is lost. If another
        controller has the stream by now, that one skips the message. Without a controller it does nothing.
        """
        if controller is not None and await self.has(id):
            await self.send([id], "")

    async def count_open(self, *, at_most: int, besides: str = "") -> int:
        """Return the number of live streams of sessions and of listen streams, on any instance.

        Counting stops at `at_most`. The stream of the session `besides` is not counted, and neither are the
        private mailboxes of sessions. The default cannot tell, and returns 0: no stream is refused.
        """
        del at_most, besides
        return 0

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` expired rows of each kind, and return the number removed."""
        del limit
        return 0


def full_inboxes(most_bytes: int) -> LimitReachedError:
    """Return the error of a session whose inboxes hold as much as they may."""
    return LimitReachedError(
        f"the replies to this session's requests take {most_bytes} bytes or {INBOX_ROWS} messages, the most "
        "(TMCP_MAX_INBOX_BYTES): wait until some of its requests have ended"
    )


def inbox_limits(most_bytes: int, *, early: bool) -> tuple[int, int]:
    """Return the messages and the bytes below which a session's inboxes take another message.

    `early`: for a cancellation. It is short, and finds room where replies do not any more.
    """
    more = 2 if early else 1
    return INBOX_ROWS * more, most_bytes * more
