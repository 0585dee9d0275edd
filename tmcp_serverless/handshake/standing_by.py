"""Standing by: a stream that another GET has taken over stays open, and waits for its turn.

The newer GET gets the stream at once, because an older connection may be dead without a sign. Both stay open,
so clients that share a session do not end each other's streams; each message goes on one of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tmcp_serverless.errors import SessionNotFoundError, StoreUnavailableError
from tmcp_serverless.sessions import CloseReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.handshake.stream_reader import StreamReader
    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["StandBy"]

logger = logging.getLogger(__name__)

_AGAIN_SECONDS = 3.0
"""Seconds to wait after the store was out of reach."""


class StandBy:
    """Waiter that gets one GET its stream back. It costs nothing until the stream is taken over.

    Args:
        streams: The stream manager.
        id: The stream's address.
        reader: The GET.
        check: Raises `SessionNotFoundError` if the session was deleted meanwhile.

    """

    def __init__(
        self,
        streams: StreamSessionManager,
        id: str,
        reader: StreamReader,
        *,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._streams = streams
        self._id = id
        self._reader = reader
        self._check = check
        self._waiting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to wait for the stream."""
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.create_task(self._wait())

    async def aclose(self) -> None:
        """Stop waiting."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)

    async def _wait(self) -> None:
        try:
            while self._reader.superseded:
                await self._claim()
                await self._check()
        except SessionNotFoundError:
            self._reader.close(CloseReason.DELETED)
        except Exception:
            logger.exception("a stream cannot wait for its turn any longer")
            self._reader.stop()

    async def _claim(self) -> None:
        while True:
            takeovers = self._reader.takeovers
            try:
                await self._reader.stand_by(self._streams, self._id)
            except StoreUnavailableError as error:
                logger.debug("a stream that stands by tries again later: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._reader.superseded = self._reader.takeovers != takeovers
                return
