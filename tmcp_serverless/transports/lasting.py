"""Attending to requests that last: they listen for the client, then stream, then end before their host does.

A request that is answered at once, as most are, pays for one timer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from tmcp_serverless.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from tmcp_serverless.transports.conversation import Conversation
    from tmcp_serverless.transports.exchange import Exchange
    from tmcp_serverless.transports.host import Host
    from tmcp_serverless.transports.options import HttpOptions

__all__ = ["Attendance", "close"]

logger = logging.getLogger(__name__)

_LASTING_SECONDS = 0.1
"""A request that runs for longer than this listens for its cancellation."""


class Attendance:
    """Surrounds the running of a POST's requests.

    Args:
        exchange: The POST's answer; `None` where that is another stream, which is open already.
        conversations: The requests' conversations; they are closed at the end.
        host: What calls us, and for how long.
        options: How the transport behaves.
        session_is_there: Returns whether the session still exists.

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
        self._attending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._attending is not None:
            self._attending.cancel()
            await asyncio.gather(self._attending, return_exceptions=True)
        for conversation in self._conversations:
            await close(conversation)

    def _begin(self) -> None:
        self._attending = asyncio.get_running_loop().create_task(self._attend())

    async def _attend(self) -> None:
        try:
            await self._listen()
        except StoreUnavailableError as error:
            logger.warning("a running request cannot be cancelled: %s", error)
        if self._exchange is not None:
            await self._turn_into_a_stream(self._exchange)

    async def _turn_into_a_stream(self, exchange: Exchange) -> None:
        left = self._host.seconds_left(at_most=self._options.stream_max_seconds)
        defer = min(self._options.defer_seconds, left)
        await asyncio.sleep(max(0.0, defer - _LASTING_SECONDS))
        if self._host.streams:
            await exchange.keep_alive(until_seconds=max(0.0, left - defer))

    async def _listen(self) -> None:
        for conversation in self._conversations:
            await conversation.inbox.open()
        # A session that was deleted before its requests listened could not tell them.
        if not await self._session_is_there():
            for conversation in self._conversations:
                conversation.cancel()


async def close(conversation: Conversation) -> None:
    """Close a conversation; where the store is away its inbox is left to expire."""
    try:
        await conversation.aclose()
    except StoreUnavailableError as error:
        logger.debug("an inbox is left to expire: %s", error)
