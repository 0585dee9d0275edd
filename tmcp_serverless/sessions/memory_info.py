"""Session metadata in the memory of one process."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from tmcp_serverless.sessions.info import InfoSessionManager, too_many_subscriptions
from tmcp_serverless.sessions.records import ANONYMOUS, Json, SessionRecord

if TYPE_CHECKING:
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["InMemoryInfoSessionManager"]

_SURPLUS_ROWS = 100


class InMemoryInfoSessionManager(InfoSessionManager):
    """Session metadata in the memory of one process, with the same idle clock as in Postgres.

    A value that is set for a session that does not exist is not kept: a request that is still running when
    its session is deleted leaves nothing behind.

    Args:
        idle_seconds: The time that an unused session is kept.
        streams: The manager of the sessions' streams. It deletes an expired session's stream and messages.
        max_subscriptions: The most subscriptions of one session.

    """

    def __init__(
        self,
        *,
        idle_seconds: float = 86_400,
        streams: StreamSessionManager | None = None,
        max_subscriptions: int = 1_000,
    ) -> None:
        self._idle_seconds = idle_seconds
        self._max_subscriptions = max_subscriptions
        self._streams = streams
        self._records: dict[str, SessionRecord] = {}
        self._seen_at: dict[str, float] = {}
        self._client_info: dict[str, Json] = {}
        self._client_capabilities: dict[str, Json] = {}
        self._log_level: dict[str, str] = {}
        self._subscriptions: defaultdict[str, set[str]] = defaultdict(set)
        self._subscribed: Counter[str] = Counter()

    async def get_client_info(self, id: str) -> Json | None:
        """Return the client's `Implementation` object."""
        return self._client_info.get(id)

    async def set_client_info(self, id: str, value: Json) -> None:
        """Store the client's `Implementation` object."""
        if id in self._records:
            self._client_info[id] = value

    async def get_client_capabilities(self, id: str) -> Json | None:
        """Return the client's `ClientCapabilities` object."""
        return self._client_capabilities.get(id)

    async def set_client_capabilities(self, id: str, value: Json) -> None:
        """Store the client's `ClientCapabilities` object."""
        if id in self._records:
            self._client_capabilities[id] = value

    async def get_log_level(self, id: str) -> str | None:
        """Return the level that was set."""
        return self._log_level.get(id)

    async def set_log_level(self, id: str, value: str) -> None:
        """Store the level."""
        if id in self._records:
            self._log_level[id] = value

    async def get_subscriptions(self, uri: str) -> set[str]:
        """Return the ids of the sessions that are subscribed and have not expired."""
        return {id for id in self._subscriptions.get(uri, ()) if not self._expired(id)}

    async def add_subscription(self, id: str, uri: str) -> None:
        """Subscribe the session."""
        if id not in self._records or id in self._subscriptions.get(uri, ()):
            return
        if self._subscribed[id] >= self._max_subscriptions:
            raise too_many_subscriptions(self._max_subscriptions)
        self._subscriptions[uri].add(id)
        self._subscribed[id] += 1

    async def remove_subscription(self, id: str, uri: str) -> None:
        """Remove the subscription."""
        if id not in self._subscriptions.get(uri, ()):
            return
        self._subscriptions[uri].remove(id)
        self._subscribed[id] -= 1
        if not self._subscriptions[uri]:
            del self._subscriptions[uri]

    async def delete(self, id: str) -> None:
        """Delete the session."""
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
        self._subscribed.pop(id, None)

    async def surplus(self, principal: str, *, keep: int) -> list[str]:
        """Return the principal's sessions that were not used for the longest time, beyond so many."""
        own = [id for id, record in self._records.items() if record.principal == principal]
        return sorted(own, key=self._seen_at.__getitem__, reverse=True)[keep : keep + _SURPLUS_ROWS]

    async def initialize(self, id: str, record: SessionRecord, *, only_if_exists: bool = False) -> bool:
        """Store the session."""
        # Nothing that is awaited here lets another task run.
        if only_if_exists and await self.load(id, principal=record.principal) is None:
            return False
        self._records[id] = record
        self._seen_at[id] = time.monotonic()
        self._client_info[id] = record.client_info
        self._client_capabilities[id] = record.client_capabilities
        if record.log_level is not None:
            self._log_level[id] = record.log_level
        return True

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

    async def update(self, id: str, *, log_level: str | None = None, initialized: bool | None = None) -> None:
        """Store the given values."""
        if log_level is not None:
            await self.set_log_level(id, log_level)
        if initialized is not None and id in self._records:
            self._records[id] = replace(self._records[id], initialized=initialized)

    async def sweep(self, *, limit: int = 100) -> int:
        """Remove expired sessions."""
        expired = [id for id in self._records if self._expired(id)][:limit]
        for id in expired:
            await self.delete(id)
            if self._streams is not None:
                await self._streams.delete(id)
        return len(expired)

    def _expired(self, id: str) -> bool:
        seen_at = self._seen_at.get(id)
        return seen_at is not None and seen_at < time.monotonic() - self._idle_seconds
