"""Inbox of a running request: the mailbox of messages from the client, received by any instance.

Answers to the request's server requests, their progress, and its cancellation are posted to any instance.
That instance appends them here. The inbox costs nothing until the request lasts, or sends a server request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from tmcp_serverless.exits import current_task, is_end_of
from tmcp_serverless.sessions.records import CloseReason, NotWrittenError
from tmcp_serverless.transports.addresses import inbox_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tmcp_serverless.sessions.records import Json, StoredEvent
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["Inbox", "cancellation"]

logger = logging.getLogger(__name__)

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
        name: The request's name.
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
        self._opening = asyncio.Lock()
        self._claimed = False
        self._listens = False
        self._cursor: str | None = None
        self._closed: CloseReason | None = None
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._on_progress: dict[str, Any] = {}

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

    async def aclose(self) -> None:
        """Stop listening, and delete the mailbox unless another request with the same id listens there."""
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

    def expect(self, question_id: str, on_progress: Any) -> asyncio.Future[Json]:
        """Return the future answer, a JSON-RPC response, to a server request that is about to be sent.

        Raises:
            ConnectionError: No answer will be heard.

        """
        if self._closed is not None:
            raise ConnectionError(f"the inbox was closed: {self._closed}")
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[question_id] = future
        if on_progress is not None:
            self._on_progress[question_id] = on_progress
        return future

    def forget(self, question_id: str) -> None:
        """Stop waiting for this answer. If it comes late, it is dropped."""
        future = self._waiting.pop(question_id, None)
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # Whoever asked has another reason to give up; this one is not news.
        self._on_progress.pop(question_id, None)

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
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(f"the inbox was closed: {reason}"))

    async def _hear(self, message: Json) -> None:
        method = message.get("method")
        if method == "notifications/cancelled":
            if message.get("receivedAt", self._began_at) > self._began_at - _STARTING_SECONDS:
                self._on_cancelled()
            else:
                logger.debug("dropped a cancellation that came for an earlier request with the same id")
        elif method == "notifications/progress":
            await self._hear_progress(message.get("params") or {})
        else:
            future = self._waiting.get(message.get("id", ""))
            if future is None or future.done():
                logger.debug("dropped an answer that nobody waits for: %r", message.get("id"))
            else:
                future.set_result(message)

    async def _hear_progress(self, params: Json) -> None:
        on_progress = self._on_progress.get(params.get("progressToken", ""))
        progress, total, text = (
            _number(params.get("progress")),
            _number(params.get("total")),
            params.get("message"),
        )
        if on_progress is None or progress is None:
            return
        task = current_task()
        try:
            await on_progress(progress, total, text if isinstance(text, str) else None)
        except BaseException as error:
            if is_end_of(task, error):
                raise
            logger.exception("a progress callback raised")


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
