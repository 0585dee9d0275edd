"""The modern era's subscriptions, across instances: the SDK's `SubscriptionBus` over an `EventTopic`.

(2026-07-28, basic/patterns/subscriptions; `mcp.server.subscriptions` has the promises of a bus)

Delivery: when `publish` returns, the event is committed. Every stream of every instance that was listening
then hears it, in order. Nothing is kept for other streams: changes are level triggers, and a client that
listens again refetches. When the store was out of reach for longer than it keeps events, some were missed;
streams are then ended, so that clients refetch. A listener added with `subscribe` alone resumes when the
store is back, and misses the events published meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import anyio

from tmcp_serverless.closable import Closable
from tmcp_serverless.errors import TmcpError
from tmcp_serverless.sessions import CloseReason, SendOrder
from tmcp_serverless.sessions.addresses import EVENTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mcp.shared.subscriptions import ServerEvent

    from tmcp_serverless.sessions import EventTopic, StoredEvent

__all__ = ["StreamSubscriptionBus"]

logger = logging.getLogger(__name__)

_LET_GO_SECONDS = 3.0

_LONGEST_AGAIN_SECONDS = 8.0
"""The longest wait in the background before another try to watch: each wait is twice the last, up to this."""


class StreamSubscriptionBus(Closable):
    """A `SubscriptionBus` that reaches the listen streams of every instance.

    It watches the topic while anything listens in this process: one watch for any number of streams.

    Args:
        topic: The topic of events.
        reaches_others: False if the topic is of this process alone.
        order: The order of the events that this process publishes; by default the bus has its own.

    """

    again_seconds: ClassVar = 0.5
    """The wait in the background before another try to watch, which grows with each that fails."""

    def __init__(
        self, topic: EventTopic, *, reaches_others: bool = True, order: SendOrder | None = None
    ) -> None:
        self.reaches_others = reaches_others
        """True if events reach the streams of other instances."""

        self._topic = topic
        self._order = SendOrder() if order is None else order
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        self._held: dict[object, Callable[[], None]] = {}
        self._turn = asyncio.Lock()
        self._watch: _Watch | None = None
        self._reconciling: asyncio.Task[None] | None = None

    @property
    def namespace(self) -> str | None:
        """The part of the store that the bus is for; `None` if the store has no parts."""
        return getattr(self._topic, "namespace", None)

    async def publish(self, event: ServerEvent) -> None:
        """Tell every listening stream, on every instance. Committed when it returns."""
        from tmcp_serverless.modern.events import message_of  # sessions do without the SDK

        data = json.dumps(message_of(event), separators=(",", ":"))
        with self._order.take(EVENTS) as turn:
            await turn.come()
            await self._topic.publish(data)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call the listener with each event from now on; return a function that ends this.

        Within `listening` the watch is open already. Otherwise it is opened in the background, and again
        when it was lost, as often as that takes. Events published while it is not open are not heard.
        """
        token = object()
        self._listeners[token] = listener
        self._reconcile_in_background()

        def unsubscribe() -> None:
            if self._listeners.pop(token, None) is not None and not self._is_wanted:
                self._reconcile_in_background()

        return unsubscribe

    @asynccontextmanager
    async def listening(self, on_lost: Callable[[], None]) -> AsyncGenerator[None]:
        """Hold the watch open: everything published after entering is heard.

        `on_lost`: called when the watch cannot be held any longer, or events were missed; streams must end.

        Raises:
            StoreUnavailableError: The store cannot be reached.

        """
        token = object()
        self._held[token] = on_lost
        try:
            await self._reconcile()
            yield
        finally:
            self._held.pop(token, None)  # `aclose` has let go of it already.
            # A client that went away has cancelled the scope around us; LISTEN must end all the same.
            with anyio.move_on_after(_LET_GO_SECONDS, shield=True):
                await self._close_unwanted_watch()

    async def aclose(self) -> None:
        """End the streams, and stop watching. Idempotent."""
        self._listeners.clear()
        self._end_streams()
        self._held.clear()
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.gather(self._reconciling, return_exceptions=True)
        await self._close_unwanted_watch()

    @property
    def _is_wanted(self) -> bool:
        return bool(self._held or self._listeners)

    @property
    def _is_reconciled(self) -> bool:
        """True if a watch hears when one is wanted, and there is none when none is."""
        if self._watch is None:
            return not self._is_wanted
        return self._is_wanted and not self._watch.closed

    async def _reconcile(self) -> None:
        """Watch if anything listens, and stop if nothing does."""
        async with self._turn:
            await self._drop_unwanted_watch()
            if self._watch is None and self._is_wanted:
                watch = _Watch(self._hear, self._lose)
                await watch.context.enter_async_context(self._topic.watch(watch))
                self._watch = watch

    async def _close_unwanted_watch(self) -> None:
        """Stop watching if nothing listens any more. Open nothing: a stream that leaves has no use for it."""
        async with self._turn:
            await self._drop_unwanted_watch()

    async def _drop_unwanted_watch(self) -> None:
        """Release the watch if it has been closed, or is not wanted."""
        if self._watch is not None and not self._is_reconciled:
            watch, self._watch = self._watch, None
            watch.closed = True
            try:
                await watch.context.aclose()
            except TmcpError as error:
                logger.debug("a watch is left to the store: %s", error)

    def _reconcile_in_background(self, *, after_seconds: float = 0.0) -> None:
        """Reconcile the watch in the background, unless that is done or under way."""
        if not self._is_reconciled and (self._reconciling is None or self._reconciling.done()):
            # The work is for all listeners, and not for the user of the first request.
            nobody = contextvars.Context()
            work = self._keep_reconciling(after_seconds)
            self._reconciling = asyncio.get_running_loop().create_task(work, context=nobody)

    async def _keep_reconciling(self, after_seconds: float) -> None:
        """Try until the watch is as it should be. Listeners may come and go while it is being opened."""
        await asyncio.sleep(after_seconds)
        again_seconds = self.again_seconds
        while not self._is_reconciled:
            try:
                await self._reconcile()
            except Exception as error:  # noqa: BLE001 - whatever it is, who listens would be deaf for good
                logger.warning("events from other instances are not heard for now: %r", error)
                await asyncio.sleep(again_seconds)
                again_seconds = min(2 * again_seconds, _LONGEST_AGAIN_SECONDS)

    def _hear(self, event: ServerEvent) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener raised; the others hear on")

    def _lose(self, reason: CloseReason | None) -> None:
        """End the streams, and watch again for listeners that have only subscribed."""
        self._end_streams()
        if reason is not CloseReason.SHUTDOWN:
            # Streams take a moment to end; and a watch may be lost as soon as it is open, again and again.
            self._reconcile_in_background(after_seconds=self.again_seconds)

    def _end_streams(self) -> None:
        for on_lost in list(self._held.values()):
            on_lost()


class _Watch:
    """The writing end of the watch: turns stored messages into events."""

    def __init__(
        self, hear: Callable[[ServerEvent], None], lose: Callable[[CloseReason | None], None]
    ) -> None:
        from tmcp_serverless.modern.events import event_of  # sessions do without the SDK

        self.context = AsyncExitStack()
        self.closed = False
        self._hear = hear
        self._lose = lose
        self._event_of = event_of

    async def opened(self, cursor: str) -> None:
        """Begin: messages from here on are heard."""

    async def write(self, events: Sequence[StoredEvent]) -> None:
        """Hand each event to all listeners."""
        for stored in events:
            if self.closed:
                return  # Another watch may hear the same already.
            event = self._event_of(json.loads(stored.data))
            if event is not None:
                self._hear(event)
            # A listener's buffer is sent in between, so that a burst does not overflow it.
            await asyncio.sleep(0)

    async def missed(self, count: int) -> None:
        """End the streams: their clients refetch when they listen again."""
        logger.warning("%d events were missed; listen streams are ended", count)
        self._lose(None)

    def close(self, reason: CloseReason) -> None:
        """End the streams, for nothing more is heard."""
        logger.debug("the watch was closed: %s", reason)
        self.closed = True
        self._lose(reason)
