"""Inbox of a running request: the mailbox of messages from the client, received by any instance.

Replies to the request's server requests, their progress, and its cancellation are posted to any instance.
That instance appends them here. The inbox costs nothing until the request lasts, or sends a server request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import StoreUnavailableError, TmcpError
from tmcp_serverless.handshake.addresses import inbox_of
from tmcp_serverless.handshake.server_requests import ServerRequests
from tmcp_serverless.sessions import CloseReason, NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tmcp_serverless.sessions import Json, StoredEvent, StreamSessionManager

__all__ = ["Inbox", "cancellation"]

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
"""Interval at which a request's inbox is checked.

A GET that resumes the stream treats a request without an inbox as dead.
"""

_OPENING_SECONDS = 1.0
"""Seconds that an inbox may take to finish opening, before it is closed."""

_STARTING_SECONDS = 30.0
"""Seconds that a request may take to its handler behind a cold start, while its cancellation overtakes it."""


def cancellation() -> Json:
    """Return a `notifications/cancelled` of now, in the form that an inbox takes.

    The inbox's name identifies the request. The client's other data about it may fill a whole body. It is not
    kept for a request that may never have existed.
    """
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "receivedAt": time.time()}


class Inbox:
    """Controller of a request's inbox.

    Args:
        streams: The stream manager with the mailbox.
        session_id: The session.
        name: The request's name (`addresses.request_name`).
        began_at: The start of the request, in seconds since the epoch.
        on_cancelled: Called when the client cancels the request, or its session is deleted.

    """

    def __init__(
        self,
        streams: StreamSessionManager,
        session_id: str,
        name: str,
        *,
        began_at: float,
        on_cancelled: Callable[[], None],
    ) -> None:
        self._on_cancelled = on_cancelled
        self._began_at = began_at
        self._streams = streams
        self._address = inbox_of(session_id, name)
        self._requests = ServerRequests(name)
        self._opening = asyncio.Lock()
        self._claimed = False
        self._listens = False
        self._cursor: str | None = None
        self._closed: CloseReason | None = None
        self._over = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: Mapping[str, Any] | None,
        send: Callable[[Json], Awaitable[None]],
    ) -> Json:
        """Listen, send a server request, and return its result: see `ServerRequests.request`."""
        await self.open()
        return await self._requests.request(method, params, opts, send)

    async def open(self) -> bool:
        """Listen. Messages that are appended from now on, and those appended before, are heard.

        Return `True` if nothing listened until now, because this is the first time, or the store was
        unavailable.
        """
        async with self._opening:
            if self._listens or self._closed is not None:
                return False
            # A caller that is cancelled here may have claimed the mailbox all the same.
            self._claimed = True
            # Messages that the store takes for delivered may not have come: the reply to a read may have been
            # lost.
            await self._streams.create(self._address, self, after=self._cursor)
            self._listens = True
            return True

    def keep_open(self, session_exists: Callable[[], Awaitable[bool]]) -> None:
        """Listen until `aclose`, also after the store was unavailable.

        `session_exists` is awaited whenever nothing has listened for a while: the session may have been
        deleted meanwhile, and its requests were not told.
        """
        self._keeping = asyncio.create_task(self._keep_open(session_exists))

    async def aclose(self) -> None:
        """Stop listening, and delete the mailbox unless another request with the same id listens there."""
        self._over.set()
        if self._keeping is not None:
            # A cancelled statement takes its connection along, and may have run.
            await asyncio.wait([self._keeping], timeout=_OPENING_SECONDS)
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        async with self._opening:
            self._end(self._closed or CloseReason.SHUTDOWN)
            if not self._claimed:
                return
            self._claimed = False
            await self._streams.release(self._address, self)
            if self._closed is not CloseReason.SUPERSEDED and await self._is_free():
                await self._streams.delete(self._address)

    async def _is_free(self) -> bool:
        return not (self._streams.can_release and await self._streams.has(self._address))

    async def opened(self, cursor: str) -> None:
        """Note the cursor that the inbox starts at."""
        self._cursor = cursor

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Handle messages from the client."""
        if self._closed is not None:
            raise NotWrittenError
        for event in events:
            if event.data:
                await self._hear(json.loads(event.data))
            self._cursor = event.cursor

    async def missed(self, count: int) -> None:
        """Note that messages expired: nothing waited for them, or the waiting has a time limit."""
        logger.debug("%d messages to a running request expired unread", count)

    def close(self, reason: CloseReason) -> None:
        """Stop hearing. After `UNAVAILABLE` the inbox can be opened again when the store is back."""
        self._listens = False
        if reason is not CloseReason.UNAVAILABLE:
            self._end(reason)
        if reason in (CloseReason.DELETED, CloseReason.INTERRUPTED):
            # For an inbox INTERRUPTED also means deleted: a cancellation right after the deletion re-creates
            # the mailbox, so the read reports INTERRUPTED.
            self._on_cancelled()

    def _end(self, reason: CloseReason) -> None:
        self._closed = reason
        self._requests.end(f"the inbox was closed: {reason}")

    async def _keep_open(self, session_exists: Callable[[], Awaitable[bool]]) -> None:
        unsure = True
        while not self._over.is_set():
            try:
                unsure = await self.open() or unsure
                if unsure and not self._over.is_set():
                    if not await session_exists():
                        self._on_cancelled()
                        return
                    unsure = False
            except StoreUnavailableError as error:
                logger.info("a running request cannot be cancelled now: %s", error)
            except TmcpError as error:
                logger.error("a running request cannot be cancelled now: %s", error)  # noqa: TRY400 - it says why
            except Exception:
                logger.exception("a running request cannot be cancelled any more")
                return
            try:
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await self._over.wait()
            except TimeoutError:
                pass

    async def _hear(self, message: Json) -> None:
        if message.get("method") != "notifications/cancelled":
            await self._requests.hear(message)
        elif message.get("receivedAt", self._began_at) > self._began_at - _STARTING_SECONDS:
            self._on_cancelled()
        else:
            logger.debug("dropped a cancellation that came for an earlier request with the same id")
