"""Exchange for the running requests of a session that is one stream: HTTP+SSE.

Each message is appended to the session's mailbox. The instance that holds the stream writes it from there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports.jsonrpc import dump
from tmcp_serverless.transports.timing import PATIENCE_SECONDS, RETRY_SECONDS

if TYPE_CHECKING:
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["StreamExchange"]

logger = logging.getLogger(__name__)


class StreamExchange:
    """One request's way to its session's stream.

    Delivery: in order, together with all other messages of this process to the session, and committed when
    `emit` or `answer` returns. While the store is away they try again for 30 seconds. If the link to the
    store broke after a message was committed and before that was known, the client gets the message twice: a
    lost server request would keep its handler waiting, and a lost answer the client.

    Args:
        streams: The stream manager with the session's mailbox.
        session_id: The session.

    """

    def __init__(self, streams: StreamSessionManager, session_id: str) -> None:
        self._streams = streams
        self._session_id = session_id
        self.can_close = False
        """Always `False`: the client could not come back."""

    async def emit(self, message: Any) -> None:
        """Send a message before the answer.

        Raises:
            StoreUnavailableError: It could not be stored.

        """
        await self._send(dump(message).decode())

    async def answer(self, data: bytes) -> None:
        """Send the answer, as JSON. If it cannot be stored, the stream has long ended with its lease."""
        try:
            await self._send(data.decode())
        except StoreUnavailableError as error:
            logger.warning("an answer is lost, for it could not be stored: %s", error)

    async def close_connection(self) -> None:
        """Do nothing: the session would end with it."""

    async def _send(self, data: str) -> None:
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        with self._streams.send_order.take(self._session_id) as turn:
            await turn.come()
            while True:
                try:
                    # Not `send`: that would create the mailbox of a session again that has been deleted.
                    if await self._streams.append(self._session_id, data, create=False) is None:
                        logger.debug("dropped a message: its session is gone")
                except StoreUnavailableError:
                    if asyncio.get_running_loop().time() > until:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    return
