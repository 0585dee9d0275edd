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

__all__ = ["Attendance"]

logger = logging.getLogger(__name__)

_LASTING_SECONDS = 0.1
"""A request that runs for longer than this listens for its cancellation."""

_AGAIN_SECONDS = 1.0
"""How often it is made sure that it listens still: whoever resumes its stream takes it for dead otherwise."""


class Attendance:
    """Surrounds the running of a POST's requests, or of a notification's handler.

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
        self._attending: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        listens = bool(self._attending)
        for conversation in self._conversations:
            # Whatever a handler has left running: nobody would hear the answer any more.
            conversation.can_ask = False
            listens = listens or conversation.has_inbox
        if listens:
            # In a task of its own: inboxes are let go of though the host may stop this one meanwhile.
            self._closing = asyncio.create_task(self._close())
            await asyncio.shield(self._closing)

    def _begin(self) -> None:
        self._attending = [asyncio.create_task(self._listen())]
        if self._exchange is not None:
            self._attending.append(asyncio.create_task(self._turn_into_a_stream(self._exchange)))

    async def _close(self) -> None:
        for task in self._attending:
            task.cancel()
        await asyncio.gather(*self._attending, return_exceptions=True)
        for conversation in self._conversations:
            try:
                await conversation.aclose()
            except StoreUnavailableError as error:
                logger.debug("an inbox is left to expire: %s", error)

    async def _turn_into_a_stream(self, exchange: Exchange) -> None:
        left = self._host.seconds_left(at_most=self._options.stream_max_seconds)
        defer = min(self._options.defer_seconds, left)
        await asyncio.sleep(max(0.0, defer - _LASTING_SECONDS))
        if self._host.streams:
            await exchange.keep_alive(until_seconds=max(0.0, left - defer))

    async def _listen(self) -> None:
        unsure = True
        while True:
            try:
                hearing = [conversation for conversation in self._conversations if conversation.hears]
                for conversation in hearing:
                    unsure = await conversation.inbox.open() or unsure
                # A session that was deleted while its requests did not listen could not tell them.
                if hearing and unsure and not await self._session_is_there():
                    for conversation in hearing:
                        conversation.cancel()
                    return
                unsure = False
            except StoreUnavailableError as error:
                logger.info("a running request cannot be cancelled now: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)
