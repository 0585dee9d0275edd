"""Runner of requests of HTTP+SSE: their messages and answers are appended to the session's mailbox.

The instance that holds the session's stream writes them from there. Imports `mcp`, as `runner` does.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.handshake.journal import PATIENCE_SECONDS, RETRY_SECONDS
from tmcp_serverless.handshake.runner import MessageRunner
from tmcp_serverless.http import INTERNAL_ERROR, STOPPED, dump, error_answer, platform_of
from tmcp_serverless.tracebacks import log_failure

if TYPE_CHECKING:
    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.http import Scope
    from tmcp_serverless.sessions import Json, StreamSessionManager

__all__ = ["HttpSseRunner", "MailboxResponse"]

logger = logging.getLogger(__name__)

_OUT_OF_TIME = "The request took longer than its instance lives"


class HttpSseRunner(MessageRunner):
    """Runner of requests and notifications of HTTP+SSE sessions."""

    async def answer_on_stream(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a request of a session that is one stream. Its messages and its answer go there.

        There is always an answer: only this invocation could give one, and the client waits for it.
        """
        response = MailboxResponse(self._managers.streams, session.id)
        try:
            answer = await self._run_in_time(scope, session, message, response)
        except asyncio.CancelledError:
            # The host is stopping.
            await asyncio.shield(response.answer(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
            raise
        except TimeoutError:
            answer = dump(error_answer(message, INTERNAL_ERROR, _OUT_OF_TIME))
        except Exception as error:  # noqa: BLE001 - the client waits for an answer
            log_failure(logger, "%r could not be run", message["method"], error=error)
            answer = dump(error_answer(message, INTERNAL_ERROR, "The server could not run the request"))
        await response.answer(answer)

    async def _run_in_time(
        self, scope: Scope, session: LoadedSession, message: Json, response: MailboxResponse
    ) -> bytes:
        """Run the request, or `initialize`, unless the invocation would be ended by force before."""
        if message["method"] == "initialize":
            return await self._initialize_stream(scope, session, message)
        platform = platform_of(scope)
        left = platform.seconds_left(at_most=math.inf)
        async with (
            asyncio.timeout(None if math.isinf(left) else left),
            self._running(scope, session, message, response, can_send_requests=platform.streams) as running,
        ):
            return await self._run(running)

    async def _initialize_stream(self, scope: Scope, session: LoadedSession, message: Json) -> bytes:
        """Run `initialize`. The session that it settles is durable before the answer."""
        answer, settled = await self.initialize(
            scope, session.id, message, session.record.principal, pushes=True
        )
        if settled is not None:
            # A session that has ended meanwhile stays ended, and no client reads the answer.
            await self._managers.info.initialize(session.id, settled, only_if_exists=True)
        return dump(answer)


class MailboxResponse:
    """Response to one running request on its session's stream.

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

    def keep_alive(self, *, after_seconds: float, until_seconds: float) -> None:
        """Do nothing: the GET keeps the stream alive."""

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
