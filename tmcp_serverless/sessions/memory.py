"""The contracts in the memory of one process: for tests, and for servers that stay one process."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.contracts import InfoSessionManager, StreamSessionManager
from tmcp_serverless.sessions.cursors import Cursor
from tmcp_serverless.sessions.ids import BROADCAST, is_private
from tmcp_serverless.sessions.pump import Page, Pump
from tmcp_serverless.sessions.records import ANONYMOUS, CloseReason, Json, SessionRecord, StoredEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.sessions.records import StreamController

__all__ = ["InMemoryInfoSessionManager", "InMemoryStreamSessionManager"]

_RETENTION_SECONDS = 600.0
_RETENTION_ROWS = 10_000
_PAGE_ROWS = 64


@dataclass(slots=True)
class _Message:
    number: int
    data: str
    created_at: float


@dataclass(slots=True)
class _Mailbox:
    last: int = 0
    messages: list[_Message] = field(default_factory=list)
    delivered: Cursor | None = None

    def append(self, data: str) -> None:
        self.last += 1
        now = time.monotonic()
        self.messages.append(_Message(self.last, data, now))
        while len(self.messages) > _RETENTION_ROWS or self.messages[0].created_at < now - _RETENTION_SECONDS:
            self.messages.pop(0)

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
    """Live streams in the memory of one process; another process sees nothing of them."""

    def __init__(self) -> None:
        self._mailboxes: defaultdict[str, _Mailbox] = defaultdict(_Mailbox)
        self._pumps: dict[str, Pump] = {}

    async def prepare(self, id: str) -> None:
        """Begin to keep broadcasts for the session."""
        box = self._mailboxes[id]
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

    def _read(self, id: str) -> Page:
        box = self._mailboxes[id]
        place = box.delivered or Cursor(0, 0)
        events: list[StoredEvent] = []
        topic_box = _Mailbox() if is_private(id) else self._mailboxes[BROADCAST]
        own, topic = box.after(place.own), topic_box.after(place.topic)
        missed = box.missing_after(place.own) + topic_box.missing_after(place.topic)
        place = Cursor(max(place.own, box.oldest - 1), max(place.topic, topic_box.oldest - 1))
        for message in own:
            place = place._replace(own=message.number)
            events.append(StoredEvent(message.data, str(place)))
        for message in topic:
            place = place._replace(topic=message.number)
            events.append(StoredEvent(message.data, str(place)))
        box.delivered = place
        return Page(events, more=_PAGE_ROWS in (len(own), len(topic)), missed=missed)

    async def delete(self, id: str) -> None:
        """End the session's streams and forget its messages."""
        for address in [key for key in self._mailboxes if key == id or key.startswith(f"{id}/")]:
            del self._mailboxes[address]
            if (pump := self._pumps.pop(address, None)) is not None:
                pump.close(CloseReason.DELETED)

    async def release(self, id: str, controller: StreamController) -> None:
        """End this controller's stream, unless another has taken it over."""
        pump = self._pumps.get(id)
        if pump is not None and pump.controller is controller:
            del self._pumps[id]
            await pump.stop()

    async def has(self, id: str) -> bool:
        """Return whether the session has a stream in this process."""
        return id in self._pumps

    async def append(self, id: str, data: str, *, after: str | None = None) -> str:
        """Append a message to one mailbox and return its cursor."""
        del after  # Nothing fails here that somebody would try again.
        await self.send([id], data)
        return str(Cursor(self._mailboxes[id].last, 0))

    async def deliver(self, id: str, data: str) -> bool:
        """Append a message to a mailbox that exists already."""
        if id not in self._mailboxes:
            return False
        await self.send([id], data)
        return True

    async def interrupt(self, id: str) -> None:
        """End the session's stream; its cursor stays."""
        if (pump := self._pumps.pop(id, None)) is not None:
            pump.close(CloseReason.INTERRUPTED)

    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        """Append the message and ring the streams that it concerns."""
        if sessions is None:
            self._mailboxes[BROADCAST].append(data)
            for id, pump in self._pumps.items():
                if not is_private(id):
                    pump.ring()
            return
        for id in dict.fromkeys(sessions):
            self._mailboxes[id].append(data)
            if (pump := self._pumps.get(id)) is not None:
                pump.ring()

    async def aclose(self) -> None:
        """End every stream."""
        pumps, self._pumps = list(self._pumps.values()), {}
        for pump in pumps:
            pump.abort(CloseReason.SHUTDOWN)


class InMemoryInfoSessionManager(InfoSessionManager):
    """Session metadata in the memory of one process, with the same idle clock as in Postgres."""

    def __init__(self, *, idle_seconds: float = 86_400) -> None:
        self._idle_seconds = idle_seconds
        self._records: dict[str, SessionRecord] = {}
        self._seen_at: dict[str, float] = {}
        self._client_info: dict[str, Json] = {}
        self._client_capabilities: dict[str, Json] = {}
        self._log_level: dict[str, str] = {}
        self._subscriptions: defaultdict[str, set[str]] = defaultdict(set)

    async def get_client_info(self, id: str) -> Json | None:
        """Return the client's `Implementation` object."""
        return self._client_info.get(id)

    async def set_client_info(self, id: str, value: Json) -> None:
        """Store the client's `Implementation` object."""
        self._client_info[id] = value

    async def get_client_capabilities(self, id: str) -> Json | None:
        """Return the client's `ClientCapabilities` object."""
        return self._client_capabilities.get(id)

    async def set_client_capabilities(self, id: str, value: Json) -> None:
        """Store the client's `ClientCapabilities` object."""
        self._client_capabilities[id] = value

    async def get_log_level(self, id: str) -> str | None:
        """Return the level that was set."""
        return self._log_level.get(id)

    async def set_log_level(self, id: str, value: str) -> None:
        """Store the level."""
        self._log_level[id] = value

    async def get_subscriptions(self, uri: str) -> set[str]:
        """Return the ids of the sessions that are subscribed and have not expired."""
        return {id for id in self._subscriptions.get(uri, ()) if not self._expired(id)}

    async def add_subscription(self, id: str, uri: str) -> None:
        """Subscribe the session."""
        self._subscriptions[uri].add(id)

    async def remove_subscription(self, id: str, uri: str) -> None:
        """Take the subscription back."""
        self._subscriptions[uri].discard(id)
        if not self._subscriptions[uri]:
            del self._subscriptions[uri]

    async def delete(self, id: str) -> None:
        """Forget the session."""
        for table in (
            self._records,
            self._seen_at,
            self._client_info,
            self._client_capabilities,
            self._log_level,
        ):
            table.pop(id, None)
        for uri in [uri for uri, ids in self._subscriptions.items() if id in ids]:
            await self.remove_subscription(id, uri)

    async def initialize(self, id: str, record: SessionRecord) -> None:
        """Store the session."""
        self._records[id] = record
        self._seen_at[id] = time.monotonic()
        self._client_info[id] = record.client_info
        self._client_capabilities[id] = record.client_capabilities
        if record.log_level is not None:
            self._log_level[id] = record.log_level

    async def load(self, id: str, *, principal: str = ANONYMOUS) -> SessionRecord | None:
        """Return the session and slide its idle clock."""
        record = self._records.get(id)
        if record is None or record.principal != principal or self._expired(id):
            return None
        self._seen_at[id] = time.monotonic()
        return replace(
            record,
            client_info=self._client_info.get(id) or {},
            client_capabilities=self._client_capabilities.get(id) or {},
            log_level=self._log_level.get(id),
        )

    async def mark_initialized(self, id: str) -> None:
        """Record `notifications/initialized`."""
        if id in self._records:
            self._records[id] = replace(self._records[id], initialized=True)

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove expired sessions."""
        expired = [id for id in self._records if self._expired(id)][:limit]
        for id in expired:
            await self.delete(id)
        return len(expired)

    def _expired(self, id: str) -> bool:
        seen_at = self._seen_at.get(id)
        return seen_at is not None and seen_at < time.monotonic() - self._idle_seconds
