"""Open streams of this process: reading a mailbox from a cursor, page by page.

A read is fenced: it moves the lease's cursor in the statement that returns the page, and only if the lease is
still this holder's. A take-over updates the same row, so one of the two comes first. After the take-over, the
read finds no lease of its own; after the read, the new holder begins behind the page.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.sql_files import PAGE_BYTES, PAGE_ROWS
from tmcp_serverless.sessions import CloseReason, Cursor, Page, Pump, StoredEvent
from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS, is_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.postgres.database import Row
    from tmcp_serverless.postgres.doorbell import Doorbell
    from tmcp_serverless.postgres.listener import Subscription
    from tmcp_serverless.postgres.statements import Statements
    from tmcp_serverless.sessions import StreamController

__all__ = ["Reader", "Stream", "Watch"]

_BEGINNING = Cursor(0, 0)


class Reader:
    """The reads of all streams of this process, and the doorbell that wakes them.

    A broadcast makes all streams read at once. They take turns on half of the pool's connections, so that
    they do not stand in line before the requests.

    Args:
        statements: The statements of the tables with the mailboxes.
        doorbell: The doorbell of this process.

    """

    def __init__(self, statements: Statements, doorbell: Doorbell) -> None:
        self.statements = statements
        self._doorbell = doorbell
        self._turns = asyncio.Semaphore(max(1, statements.database.size // 2))

    async def open(self, stream: Stream) -> None:
        """Have the stream woken. LISTEN holds when this returns."""
        await self._doorbell.open(*self._subscriptions(stream))

    async def close(self, *streams: Stream) -> None:
        """Wake these streams no more, and UNLISTEN channels without another stream."""
        await self._doorbell.close(*(each for stream in streams for each in self._subscriptions(stream)))

    def forget(self, stream: Stream) -> None:
        """Wake the stream no more, without telling the server."""
        self._doorbell.forget(*self._subscriptions(stream))

    def channel(self, stream: Stream) -> str:
        """Return the channel of the stream's own mailbox; for a watch, the channel of events."""
        return self._topic(EVENTS) if stream.is_watch else self.statements.channel(stream.id)

    async def fetchrow(self, name: str, *args: object) -> Row | None:
        """Run a statement of one row, on the connection that has just rung if it is idle."""
        if self._doorbell.is_idle:
            return await self._doorbell.fetchrow(self.statements.sql[name], *args)
        async with self._turns:
            return await self.statements.fetchrow(name, *args, idempotent=True)

    async def fetch(self, name: str, *args: object) -> list[Row]:
        """Run the statement of a page in the streams' turn."""
        async with self._turns:
            return await self.statements.fetch(name, *args, idempotent=True)

    def _topic(self, address: str) -> str:
        return self.statements.channel(self.statements.key(address))

    def _subscriptions(self, stream: Stream) -> list[Subscription]:
        own: list[Subscription] = [(self.channel(stream), stream.wake)]
        if not stream.is_watch and not is_private(stream.id):
            own.append((self._topic(BROADCAST), stream.wake_for_topic))
        return own


class Stream:
    """One open stream with a lease, from its claim to its end. Its state is written here alone.

    Args:
        id: The key of its mailbox.
        holder: The fencing token in its lease.
        controller: The controller that its pages are written to.
        reader: Reads for all streams of this process.

    """

    __slots__ = (
        "__weakref__",
        "_before",
        "_heard",
        "_heard_topic",
        "_reader",
        "_unsure",
        "cursor",
        "holder",
        "id",
        "pump",
        "unreachable",
    )

    is_watch = False
    """True if it reads the topic of events beside other watches, without a lease."""

    def __init__(self, id: str, holder: str, controller: StreamController, reader: Reader) -> None:
        self.id = id
        self.holder = holder
        self.pump = Pump(controller, self._read)
        """The task that moves pages to the controller."""

        self.cursor = _BEGINNING
        """The position of the last message that was read."""

        self.unreachable = False
        """True if it was ended because the database was out of reach."""

        self._reader = reader
        self._before = _BEGINNING
        # The number of notifications since the last read began, for each mailbox; one per message.
        self._heard = self._heard_topic = 0
        # True while there may be more to read than was heard of, and the lease may be beyond the cursor.
        self._unsure = True

    def start(self, cursor: Cursor) -> None:
        """Begin to read behind the cursor."""
        self.cursor = cursor
        self.pump.start(str(cursor))

    def give_up(self) -> None:
        """End the stream because the database is out of reach."""
        self.unreachable = True
        self.pump.close(CloseReason.UNAVAILABLE)

    @property
    def resume_cursor(self) -> Cursor:
        """The cursor at the start of the next stream, once this one has been stopped."""
        return self._before if self.pump.discarded else self.cursor

    @property
    def lease_is_ahead(self) -> bool:
        """True if the lease's cursor may be beyond the messages that the controller has taken."""
        return self._unsure or self.pump.discarded

    def wake(self, notified: bool) -> None:  # noqa: FBT001 - a subscriber's callback
        """Look again: a message was appended to the session's own mailbox, or may have been."""
        self._heard += 1
        self._look(notified)

    def wake_for_topic(self, notified: bool = False) -> None:  # noqa: FBT001, FBT002 - as above
        """Look again: a message was appended to the topic, or may have been appended to either."""
        self._heard_topic += 1
        self._look(notified)

    def _look(self, notified: bool) -> None:  # noqa: FBT001 - as above
        self._unsure = self._unsure or not notified
        self.pump.ring()

    async def _read(self) -> Page | CloseReason:
        """Return the next page, or the reason that the stream is no longer its holder's."""
        heard, unsure = (self._heard, self._heard_topic), self._unsure
        self._heard, self._heard_topic, self._unsure = 0, 0, False
        self._before = self.cursor
        try:
            if not unsure and sum(heard) == 1 and (page := await self._next(own=heard[0] == 1)):
                return page
            outcome = await self._page()
        except BaseException:
            # The messages that were heard of are still to be read.
            self._unsure = True
            raise
        if isinstance(outcome, Page) and outcome.more:
            self._unsure = True
        return outcome

    async def _next(self, *, own: bool) -> Page | None:
        """Return the one message that was heard of; `None` if it is not the next one.

        Every append rings once, in the order of the numbers, and is visible when it rings. So if everything
        was read before, one ring means one message. If there is one more that did not ring, because no
        holder had a fresh lease then, the heartbeat finds it.
        """
        name, number = ("read_next", self.cursor.own) if own else ("read_next_topic", self.cursor.topic)
        row = await self._reader.fetchrow(name, self.id, self.holder, number)
        if row is None:
            return None
        self.cursor = Cursor(row[0], self.cursor.topic) if own else Cursor(self.cursor.own, row[0])
        return Page((StoredEvent(row[1], str(self.cursor)),))

    async def _page(self) -> Page | CloseReason:
        rows = await self._reader.fetch("read", self.id, self.holder, *self.cursor, not is_private(self.id))
        if not rows:
            return await self._why_fenced()
        page, cursor = _page_of(rows, self.cursor)
        if page.missed:
            # The cursor has jumped over expired messages, and no row of the page has moved the lease there.
            move = self._reader.statements.fetchrow
            await move("move", self.id, self.holder, *cursor, idempotent=True)
        # Last: if this read fails, the next one is to find the same page.
        self.cursor = cursor
        return page

    async def _why_fenced(self) -> CloseReason:
        [(is_held, has_mailbox)] = await self._reader.fetch("fenced", self.id)
        if is_held:
            return CloseReason.SUPERSEDED
        return CloseReason.INTERRUPTED if has_mailbox else CloseReason.DELETED


class Watch(Stream):
    """One reader of the topic of events: nothing is fenced, for a topic has no owner."""

    __slots__ = ()

    is_watch = True

    async def _page(self) -> Page:
        page, self.cursor = _page_of(await self._reader.fetch("peek", self.cursor.own), self.cursor)
        return page

    async def _next(self, *, own: bool) -> None:
        """Read a page: without a lease there is none to move in the same statement."""
        del own


class _Part:
    """The part of a page that comes from one mailbox."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = self.missed = self.bytes = 0

    def add(self, number: int, bytes: int) -> None:
        self.rows += 1
        self.bytes = bytes
        self._move(number - 1)
        self.number = number

    @property
    def is_full(self) -> bool:
        return self.rows == PAGE_ROWS or self.bytes >= PAGE_BYTES

    def end(self, last: int | None) -> None:
        """Count missing messages up to `last` as expired, if the page had room for them."""
        if last is not None and not self.is_full and self.number < last:
            self._move(last)

    def _move(self, number: int) -> None:
        self.missed += number - self.number
        self.number = number


def _page_of(rows: Sequence[Row], cursor: Cursor) -> tuple[Page, Cursor]:
    """Return the page with the rows' messages, and the cursor behind it.

    Numbers have no gaps: a message that is missing, between the rows or up to the last number, has expired.

    Args:
        rows: `(own number, topic's number, data, bytes of this mailbox so far, last own, last of the topic)`.
            Each row has one of the two numbers; an empty page is one row with the first four null. The last
            two are the mailboxes' last numbers when the page was read, null if there is no such mailbox.
        cursor: The stream's cursor before the page.

    """
    own, topic = _Part(cursor.own), _Part(cursor.topic)
    events: list[StoredEvent] = []
    for own_number, topic_number, data, bytes, *_ in rows:
        if own_number is not None:
            own.add(own_number, bytes)
        elif topic_number is not None:
            topic.add(topic_number, bytes)
        else:
            break
        events.append(StoredEvent(data, str(Cursor(own.number, topic.number))))
    own.end(rows[0][4])
    topic.end(rows[0][5])
    page = Page(events, more=own.is_full or topic.is_full, missed=own.missed + topic.missed)
    return page, Cursor(own.number, topic.number)
