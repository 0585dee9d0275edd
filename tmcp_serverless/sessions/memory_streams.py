"""Streams in the memory of one process: for tests, and for servers that stay one process."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.addresses import (
    BROADCAST,
    LISTEN_LEASES,
    checked_session_ids,
    is_private,
    kind_bounds,
    refuse_reserved_id,
)
from tmcp_serverless.sessions.pump import Page, Pump, Turns
from tmcp_serverless.sessions.records import CloseReason, Cursor, StoredEvent, refuse_nul
from tmcp_serverless.sessions.streams import StreamSessionManager, full_inboxes, inbox_limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["InMemoryStreamSessionManager"]

_PAGE_ROWS = 64

_ALL = 1_000
"""From this limit on a sweep looks at everything."""

_LOOKED_AT = 20
"""A smaller sweep examines this many mailboxes per row that it may remove."""


@dataclass(slots=True)
class _Message:
    number: int
    data: str
    size: int
    """The length of `data` in bytes."""

    created_at: float


@dataclass(slots=True)
class _Mailbox:
    last: int = 0
    messages: list[_Message] = field(default_factory=list)
    size: int = 0
    """The bytes of all messages together."""

    delivered: Cursor | None = None
    before: Cursor | None = None
    """The cursor before the last read."""

    touched_at: float = field(default_factory=time.monotonic)

    def append(self, data: str) -> None:
        self.last += 1
        self.touched_at = time.monotonic()
        size = len(data.encode("utf-8", "surrogatepass"))
        self.messages.append(_Message(self.last, data, size, self.touched_at))
        self.size += size

    def drop(self, count: int) -> None:
        """Remove the oldest messages."""
        self.size -= sum(message.size for message in self.messages[:count])
        del self.messages[:count]

    def older_than(self, created_at: float) -> int:
        """Return the number of messages that were appended before then."""
        return bisect_left(self.messages, created_at, key=lambda message: message.created_at)

    def after(self, number: int) -> list[_Message]:
        if not self.messages or self.messages[-1].number <= number:
            return []
        first = max(0, number + 1 - self.messages[0].number)
        return self.messages[first : first + _PAGE_ROWS]

    @property
    def oldest(self) -> int:
        """The number of the oldest message that is kept, or of the next one."""
        return self.messages[0].number if self.messages else self.last + 1

    def missing_after(self, number: int) -> int:
        return max(0, self.oldest - number - 1)


class InMemoryStreamSessionManager(StreamSessionManager):
    """Live streams in the memory of one process; another process sees nothing of them.

    Args:
        retention_seconds: The time that messages are kept for a stream that is away.
        retention_rows: The most messages of one mailbox that are kept.
        retention_bytes: The most bytes of one mailbox that are kept; its last message is always kept.
        unused_seconds: The time that the cursor of a session without a stream is kept; longer than sessions
            live.
        inbox_bytes: The most bytes that a client's replies take in all inboxes of its session together.

    """

    def __init__(
        self,
        *,
        retention_seconds: float = 600.0,
        retention_rows: int = 10_000,
        retention_bytes: int = 64 * 1024 * 1024,
        unused_seconds: float = 604_800,
        inbox_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._inbox_bytes = inbox_bytes
        self._retention_seconds = retention_seconds
        self._retention_rows = retention_rows
        self._retention_bytes = retention_bytes
        self._unused_seconds = unused_seconds
        self._mailboxes: defaultdict[str, _Mailbox] = defaultdict(_Mailbox)
        self._pumps: dict[str, Pump] = {}
        self._turns = Turns()

    async def prepare(self, id: str) -> None:
        """Begin to keep broadcasts for the session."""
        box = self._mailboxes[id]
        box.touched_at = time.monotonic()
        if box.delivered is None:
            box.delivered = Cursor(0, self._mailboxes[BROADCAST].last)

    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        """Claim the session's stream for this controller."""
        start = None if after is None else Cursor.parse(after)
        await self.prepare(id)
        box = self._mailboxes[id]
        if start is not None:
            box.delivered = Cursor(
                min(start.own, box.last), min(start.topic, self._mailboxes[BROADCAST].last)
            )
        if (holder := self._pumps.pop(id, None)) is not None:
            holder.close(CloseReason.SUPERSEDED)

        async def read() -> Page | CloseReason:
            return self._read(id) if self._pumps.get(id) is pump else CloseReason.SUPERSEDED

        pump = self._pumps[id] = Pump(controller, read)
        pump.start(str(box.delivered))

    async def stand_by(
        self, id: str, controller: StreamController, *, after: str | None = None, at_once: bool = False
    ) -> None:
        """Claim the session's stream for this controller when no controller holds it."""

        async def claim_free() -> bool:
            if free := at_once or id not in self._pumps:
                await self.create(id, controller, after=self._furthest(id, after))
            return free

        await self._turns.wait(id, claim_free)

    def _furthest(self, id: str, after: str | None) -> str | None:
        """Return the further one of a cursor and the stream's own; `None` without a cursor."""
        if after is None:
            return None
        given, own = Cursor.parse(after), self._mailboxes[id].delivered or Cursor(0, 0)
        return str(Cursor(max(given.own, own.own), max(given.topic, own.topic)))

    def _read(self, id: str) -> Page:
        box = self._mailboxes[id]
        topic_box = _Mailbox() if is_private(id) else self._mailboxes[BROADCAST]
        box.before = box.delivered or Cursor(0, 0)
        page, box.delivered = self._page(box, topic_box, box.before)
        return page

    @staticmethod
    def _page(box: _Mailbox, topic_box: _Mailbox, place: Cursor) -> tuple[Page, Cursor]:
        events: list[StoredEvent] = []
        own, topic = box.after(place.own), topic_box.after(place.topic)
        missed = box.missing_after(place.own) + topic_box.missing_after(place.topic)
        place = Cursor(max(place.own, box.oldest - 1), max(place.topic, topic_box.oldest - 1))
        for message in own:
            place = place._replace(own=message.number)
            events.append(StoredEvent(message.data, str(place)))
        for message in topic:
            place = place._replace(topic=message.number)
            events.append(StoredEvent(message.data, str(place)))
        return Page(events, more=_PAGE_ROWS in (len(own), len(topic)), missed=missed), place

    async def delete(self, id: str) -> None:
        """End the session's streams and remove its messages."""
        refuse_reserved_id(id)
        for address in [key for key in self._mailboxes if key == id or key.startswith(f"{id}/")]:
            del self._mailboxes[address]
            if (pump := self._pumps.pop(address, None)) is not None:
                pump.close(CloseReason.DELETED)
            self._turns.wake(address)

    async def release(self, id: str, controller: StreamController | None = None) -> None:
        """End this controller's stream, or without one any controller's; its position stays."""
        pump = self._pumps.get(id)
        if pump is None or controller not in (None, pump.controller):
            return
        del self._pumps[id]
        if controller is None:
            pump.close(CloseReason.INTERRUPTED)
        else:
            await pump.stop()
            self._give_back_unwritten(id, pump)
        self._turns.wake(id)

    def _give_back_unwritten(self, id: str, pump: Pump) -> None:
        if pump.discarded and (box := self._mailboxes.get(id)) is not None:
            box.delivered = box.before

    async def has(self, id: str) -> bool:
        """Return true if the session has a stream in this process."""
        return id in self._pumps

    async def count_open(self, *, at_most: int, besides: str = "") -> int:
        """Return the number of streams of this process."""
        held = (id for id in self._pumps if not is_private(id) or id.startswith(LISTEN_LEASES))
        return sum(1 for _ in islice((id for id in held if id != besides), at_most))

    async def append(
        self,
        id: str,
        data: str,
        *,
        after: str | None = None,
        create: bool = True,
        siblings: int | None = None,
    ) -> str | None:
        """Append a message to one mailbox and return its cursor."""
        refuse_nul(data)
        if (not create or siblings is not None) and not self._may_append(id, siblings or 0):
            return None
        box = self._mailboxes[id]
        if after is not None:
            number = Cursor.after(after).own + 1
            if number <= box.last:
                return str(Cursor(number, 0))  # It is the same message again.
            # The mailbox may have been swept. Its numbers go on: the client knows those that it was given.
            box.last = number - 1
        await self.send([id], data)
        return str(Cursor(box.last, 0))

    def _may_append(self, id: str, siblings: int) -> bool:
        low, high = kind_bounds(id)
        kind = [box for key, box in self._mailboxes.items() if low <= key < high]
        rows, size = inbox_limits(self._inbox_bytes, early=siblings > 0)
        if sum(len(box.messages) for box in kind) >= rows or sum(box.size for box in kind) >= size:
            raise full_inboxes(self._inbox_bytes)
        return id in self._mailboxes or len(kind) < siblings

    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append the message and wake the streams that it concerns."""
        refuse_nul(data)
        if sessions is None:
            self._append(BROADCAST, data)
            for id, pump in self._pumps.items():
                if not is_private(id):
                    pump.ring()
            return
        for id in checked_session_ids(sessions):
            self._append(id, data)
            if (pump := self._pumps.get(id)) is not None:
                pump.ring()

    def _append(self, id: str, data: str) -> None:
        box = self._mailboxes[id]
        box.append(data)
        box.drop(box.older_than(box.touched_at - self._retention_seconds))
        while len(box.messages) > self._retention_rows or (
            box.size > self._retention_bytes and len(box.messages) > 1
        ):
            box.drop(1)

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove at most `limit` old messages and unused mailboxes each, and return the number removed.

        A small sweep costs the same with any number of mailboxes: it looks at the next few, and the next
        sweep goes on behind them.
        """
        messages = mailboxes = 0
        looked_at = len(self._mailboxes) if limit >= _ALL else _LOOKED_AT * limit
        now = time.monotonic()
        for id in list(islice(self._mailboxes, looked_at)):
            box = self._mailboxes.pop(id)
            old = min(box.older_than(now - self._retention_seconds), limit - messages)
            box.drop(old)
            messages += old
            if mailboxes < limit and self._is_unused(id, box, now):
                mailboxes += 1
            else:
                self._mailboxes[id] = box
        return messages + mailboxes

    def _is_unused(self, id: str, box: _Mailbox, now: float) -> bool:
        kept_for = self._retention_seconds if is_private(id) else self._unused_seconds
        return not (box.messages or id in self._pumps or id == BROADCAST or box.touched_at > now - kept_for)

    async def aclose(self) -> None:
        """End every stream."""
        pumps, self._pumps = list(self._pumps.values()), {}
        for pump in pumps:
            pump.abort(CloseReason.SHUTDOWN)
