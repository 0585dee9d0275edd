"""The modern era's subscriptions, across instances: the SDK's `SubscriptionBus` over a topic's mailbox.

(2026-07-28, basic/patterns/subscriptions; `mcp.server.subscriptions` says what a bus promises)

Delivery: what `publish` returned for is committed, and is heard by every stream of every instance that was
listening then, in order. Nothing is kept for those who were not: changes are level triggers, and whoever
listens again refetches. When something was missed, because the store was out of reach for longer than it
keeps events, streams are ended, so that clients do.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from mcp.shared.subscriptions import ServerEvent

    from tmcp_serverless.sessions.contracts import StreamSessionManager
    from tmcp_serverless.sessions.records import CloseReason, StoredEvent

__all__ = ["StreamSubscriptionBus"]

logger = logging.getLogger(__name__)

_LET_GO_SECONDS = 3.0

_METHODS = {
    "ToolsListChanged": "notifications/tools/list_changed",
    "PromptsListChanged": "notifications/prompts/list_changed",
    "ResourcesListChanged": "notifications/resources/list_changed",
    "ResourceUpdated": "notifications/resources/updated",
}


class StreamSubscriptionBus:
    """A `SubscriptionBus` that reaches the listen streams of every instance.

    It watches the store for as long as anybody listens in this process: one watch, however many streams.

    Args:
        streams: Where events are published and watched.

    """

    def __init__(self, streams: StreamSessionManager) -> None:
        self._streams = streams
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        self._held: dict[object, Callable[[], None]] = {}
        self._turn = asyncio.Lock()
        self._watch: _Watch | None = None
        self._settling: asyncio.Task[None] | None = None

    async def publish(self, event: ServerEvent) -> None:
        """Tell every stream that listens, on every instance. Committed when it returns."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": _METHODS[type(event).__name__]}
        uri = getattr(event, "uri", None)
        if uri is not None:
            message["params"] = {"uri": uri}
        await self._streams.publish(json.dumps(message, separators=(",", ":")))

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call the listener with each event from now on; returns what ends that.

        Within `listening` the doorbell is up already. Without it, it is rung up in the background, and what
        is published before that is not heard.
        """
        token = object()
        self._listeners[token] = listener
        self._settle()

        def unsubscribe() -> None:
            if self._listeners.pop(token, None) is not None:
                self._settle()

        return unsubscribe

    @asynccontextmanager
    async def listening(self, on_lost: Callable[[], None]) -> AsyncGenerator[None]:
        """Hold the watch open: on entering, whatever is published from then on is heard.

        `on_lost`: called when it cannot be held any longer, or something was missed; streams must end.

        Raises:
            StoreUnavailableError: The store cannot be reached.

        """
        token = object()
        self._held[token] = on_lost
        try:
            await self._adjust()
            yield
        finally:
            del self._held[token]
            # A client that went away has cancelled the scope around us; LISTEN must end all the same.
            with anyio.move_on_after(_LET_GO_SECONDS, shield=True):
                await self._adjust()

    async def aclose(self) -> None:
        """Stop watching. Idempotent."""
        self._listeners.clear()
        self._lose()
        self._held.clear()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self._adjust()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _adjust(self) -> None:
        """Watch if anybody listens, and stop if nobody does."""
        async with self._turn:
            if self._watch is not None and (self._watch.closed or not (self._held or self._listeners)):
                watch, self._watch = self._watch, None
                try:
                    await self._streams.release(watch.address, watch)
                except TmcpError as error:
                    logger.debug("a watch is left to the store: %s", error)
            if self._watch is None and (self._held or self._listeners):
                watch = _Watch(self._hear, self._lose)
                watch.address = await self._streams.watch(watch)
                self._watch = watch

    def _settle(self) -> None:
        """See to the watch in the background, where no stream of ours holds it."""
        if not self._held and (self._settling is None or self._settling.done()):
            self._settling = asyncio.get_running_loop().create_task(self._adjust_quietly())

    async def _adjust_quietly(self) -> None:
        try:
            await self._adjust()
        except TmcpError as error:
            logger.warning("events from other instances are not heard: %s", error)

    def _hear(self, event: ServerEvent) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener raised; the others hear on")

    def _lose(self) -> None:
        for on_lost in list(self._held.values()):
            on_lost()


class _Watch:
    """The writing end of the watch: turns stored messages into events."""

    def __init__(self, hear: Callable[[ServerEvent], None], lose: Callable[[], None]) -> None:
        from mcp.shared.subscriptions import event_from_wire  # noqa: PLC0415 - only who listens needs it

        self.address = ""
        self.closed = False
        self._hear = hear
        self._lose = lose
        self._event_from_wire = event_from_wire

    async def opened(self, cursor: str) -> None:
        """Begin: what comes from here on is heard."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Hand each event to all who listen."""
        for stored in events:
            message = json.loads(stored.data)
            event = self._event_from_wire(message.get("method", ""), message.get("params"))
            if event is not None:
                self._hear(event)
            # What a listener has buffered goes out in between, so that a burst does not overflow it.
            await asyncio.sleep(0)

    async def missed(self, count: int) -> None:
        """End the streams: their clients refetch when they listen again."""
        logger.warning("%d events were missed; listen streams are ended", count)
        self._lose()

    def close(self, reason: CloseReason) -> None:
        """End the streams, for nothing more is heard."""
        logger.debug("the watch was closed: %s", reason)
        self.closed = True
        self._lose()
