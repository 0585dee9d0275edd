"""Session managers with TMCP's methods alone: four for streams, nine for metadata. In one process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tmcp_serverless import (
    CloseReason,
    InfoSessionManager,
    InvalidCursorError,
    SessionManagers,
    StoredEvent,
    StreamSessionManager,
)
from tmcp_serverless.sessions import NotWrittenError, refuse_nul
from tmcp_serverless.sessions.addresses import checked_session_ids, refuse_reserved_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless import StreamController

__all__ = ["BareInfo", "BareStreams", "bare_managers"]

LAST_WRITE_SECONDS = 1.0


@dataclass(eq=False)
class Mailbox:
    log: list[str] = field(default_factory=list[str])
    position: int = 0
    holder: StreamController | None = None
    serving: asyncio.Task[None] | None = None
    deleted: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, controller: StreamController, former: asyncio.Task[None] | None) -> None:
        """Write to the controller until another one holds the mailbox, or its client is gone."""
        if former is not None:
            await asyncio.wait({former}, timeout=LAST_WRITE_SECONDS)
            former.cancel()
        await controller.opened(str(self.position))
        try:
            while self.holder is controller:
                while self.holder is controller and self.position < len(self.log):
                    self.position += 1
                    event = StoredEvent(self.log[self.position - 1], str(self.position))
                    await controller.write([event])
                self.news.clear()
                if self.holder is controller:
                    await self.news.wait()
        except NotWrittenError:
            self.position -= 1
            if self.holder is controller:
                self.holder = None
        except asyncio.CancelledError:
            controller.close(CloseReason.CUT_OFF)
            raise
        else:
            controller.close(CloseReason.DELETED if self.deleted else CloseReason.SUPERSEDED)


class BareStreams(StreamSessionManager):
    """A subclass that has TMCP's four methods and nothing else."""

    def __init__(self) -> None:
        self.mailboxes: defaultdict[str, Mailbox] = defaultdict(Mailbox)

    async def create(self, id: str, controller: StreamController, *, after: str | None = None) -> None:
        if after is not None and not after.isdecimal():
            raise InvalidCursorError(f"not a cursor: {after!r}")
        box = self.mailboxes[id]
        if after is not None:
            box.position = min(int(after), len(box.log))
        box.holder = controller
        box.news.set()
        box.serving = asyncio.create_task(box.serve(controller, box.serving))

    async def delete(self, id: str) -> None:
        refuse_reserved_id(id)
        for address in [each for each in self.mailboxes if each == id or each.startswith(f"{id}/")]:
            box = self.mailboxes.pop(address)
            box.holder, box.deleted = None, True
            box.news.set()

    async def has(self, id: str) -> bool:
        return id in self.mailboxes and self.mailboxes[id].holder is not None

    async def send(self, sessions: Iterable[str] | None, data: str) -> None:
        refuse_nul(data)
        everyone = [id for id in self.mailboxes if "/" not in id]
        for id in everyone if sessions is None else checked_session_ids(sessions):
            self.mailboxes[id].log.append(data)
            self.mailboxes[id].news.set()


class BareInfo(InfoSessionManager):
    """A subclass that has TMCP's nine methods and nothing else."""

    def __init__(self) -> None:
        self._info: dict[str, Any] = {}
        self._capabilities: dict[str, Any] = {}
        self._levels: dict[str, str] = {}
        self._subscriptions: defaultdict[str, set[str]] = defaultdict(set)

    async def get_client_info(self, id: str) -> Any:
        return self._info.get(id)

    async def set_client_info(self, id: str, value: Any) -> None:
        self._info[id] = value

    async def get_client_capabilities(self, id: str) -> Any:
        return self._capabilities.get(id)

    async def set_client_capabilities(self, id: str, value: Any) -> None:
        self._capabilities[id] = value

    async def get_log_level(self, id: str) -> str | None:
        return self._levels.get(id)

    async def set_log_level(self, id: str, value: str) -> None:
        self._levels[id] = value

    async def get_subscriptions(self, uri: str) -> set[str]:
        return set(self._subscriptions[uri])

    async def add_subscription(self, id: str, uri: str) -> None:
        self._subscriptions[uri].add(id)

    async def delete(self, id: str) -> None:
        for table in (self._info, self._capabilities, self._levels):
            table.pop(id, None)
        for ids in self._subscriptions.values():
            ids.discard(id)


def bare_managers() -> SessionManagers:
    """Return managers with TMCP's methods alone: no topic of events, and no keys."""
    return SessionManagers(streams=BareStreams(), info=BareInfo())
