"""Supervision of requests that last: they listen for the client, stream, and end before their host does.

A request that is answered at once, as most are, pays for one timer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from tmcp_serverless.errors import StoreUnavailableError, TmcpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from tmcp_serverless.transports.conversation import Conversation
    from tmcp_serverless.transports.exchange import Exchange
    from tmcp_serverless.transports.host import Host
    from tmcp_serverless.transports.options import HttpOptions

__all__ = ["Attendance"]

logger = logging.getLogger(__name__)

_LASTING_SECONDS = 0.1
"""Seconds after which a running request listens for its cancellation."""

_AGAIN_SECONDS = 1.0
"""Interval at which a request's inbox is checked.

A GET that resumes the stream treats a request without an inbox as dead.
"""

_OPENING_SECONDS = 1.0
"""Seconds that an inbox may take to finish opening, before it is closed."""


class Attendance:
    """Supervisor of the running requests of a POST, or of a notification's handler.

    Args:
        exchange: The POST's response; `None` if the answer takes another stream, which is open already.
        conversations: The requests' conversations. They are closed at the end.
        host: The host, with its deadline.
        options: The transport's options.
        session_is_there: Returns `True` if the session still exists.

    """

    def __init__(
        self,
        exchange: Exchange | None,
        conversations: Sequence[Conversation],
        host: Host,
        options: HttpOptions,
        *,
        session_is_there: Callable[[], Awaitable[bool]],
    ) -> None:
        self._exchange = exchange
        self._conversations = conversations
        self._host = host
        self._options = options
        self._session_is_there = session_is_there
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._unsure = True
        """`True` while the session may be gone, because nothing has listened for a while."""

        self._listening: asyncio.Task[None] | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        listens = self._listening is not None
        for conversation in self._conversations:
            # A task that a handler has left running cannot ask: nothing would hear the answer any more.
            conversation.can_ask = False
            listens = listens or conversation.has_inbox
        if listens:
            # In a task of its own, so that inboxes are released even if the host stops this task meanwhile.
            self._closing = asyncio.create_task(self._close())
            await asyncio.shield(self._closing)

    def _begin(self) -> None:
        self._listening = asyncio.create_task(self._listen())
        if self._exchange is not None:
            self._streaming = asyncio.create_task(self._turn_into_a_stream(self._exchange))

    async def _close(self) -> None:
        self._over.set()
        if self._streaming is not None:
            self._streaming.cancel()
        if self._listening is not None:
            # A cancelled statement takes its connection along, and may have run.
            await asyncio.wait([self._listening], timeout=_OPENING_SECONDS)
            self._listening.cancel()
        attending = [task for task in (self._listening, self._streaming) if task is not None]
        await asyncio.gather(*attending, return_exceptions=True)
        for conversation in self._conversations:
            try:
                await conversation.aclose()
            except TmcpError as error:
                logger.debug("an inbox is left to expire: %s", error)

    async def _turn_into_a_stream(self, exchange: Exchange) -> None:
        left = self._host.stream_seconds(self._options.stream_max_seconds, resumable=True)
        defer = min(self._options.defer_seconds, left)
        await asyncio.sleep(max(0.0, defer - _LASTING_SECONDS))
        if self._host.streams:
            await exchange.keep_alive(until_seconds=max(0.0, left - defer))

    async def _listen(self) -> None:
        while not self._over.is_set():
            try:
                await self._hear()
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

    async def _hear(self) -> None:
        """Open every inbox that is not open."""
        hearing = [conversation for conversation in self._conversations if conversation.hears]
        for conversation in hearing:
            self._unsure = await conversation.inbox.open() or self._unsure
        if not hearing or not self._unsure or self._over.is_set():
            return
        if not await self._session_is_there():
            # The session was deleted while its requests did not listen, so they were not told.
            for conversation in hearing:
                conversation.cancel()
            self._over.set()
        self._unsure = False
