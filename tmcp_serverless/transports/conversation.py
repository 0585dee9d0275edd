"""Conversation of a running request with its client: its server requests, and its cancellation.

A request that is answered at once, as most are, pays for none of it: its name, its inbox and its journal are
made when they are first needed.

Imports `mcp` when a server request is sent; only code that runs a handler sends one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from tmcp_serverless.transports.addresses import new_question_id, request_name
from tmcp_serverless.transports.inbox import Inbox
from tmcp_serverless.transports.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = ["Conversation"]

logger = logging.getLogger(__name__)

_LAST_WORD_SECONDS = 5.0


class Conversation:
    """One running message's way to its client and back.

    Args:
        streams: The stream manager with its mailboxes.
        session_id: Its session.
        request_id: Its JSON-RPC id; `None` for a notification.
        can_ask: `True` if the client can be sent server requests at all while the message is handled.

    """

    __slots__ = (
        *("_began_at", "_inbox", "_name", "_request_id", "_session_id", "_streams"),
        *("can_ask", "on_cancelled"),
    )

    def __init__(
        self, streams: StreamSessionManager, session_id: str, request_id: str | int | None, *, can_ask: bool
    ) -> None:
        self.can_ask = can_ask
        self.on_cancelled: Callable[[], None] | None = None
        self._began_at = time.time()
        self._streams = streams
        self._session_id = session_id
        self._request_id = request_id
        self._name: str | None = None
        self._inbox: Inbox | None = None

    @property
    def name(self) -> str:
        """Name by which other instances find this request."""
        if self._name is None:
            self._name = request_name(self._request_id)
        return self._name

    @property
    def has_inbox(self) -> bool:
        """`True` if the message has listened, and so has an inbox to close."""
        return self._inbox is not None

    @property
    def hears(self) -> bool:
        """`True` if the client may have something to say. After a notification it has not, unless asked."""
        return self._request_id is not None or self._inbox is not None

    @property
    def inbox(self) -> Inbox:
        """Inbox for messages from the client."""
        if self._inbox is None:
            self._inbox = Inbox(
                *(self._streams, self._session_id, self.name),
                began_at=self._began_at,
                on_cancelled=self.cancel,
            )
        return self._inbox

    def journal(self, *, retry_milliseconds: int) -> Journal:
        """Return a journal that keeps the request's stream."""
        return Journal(self._streams, self._session_id, self.name, retry_milliseconds=retry_milliseconds)

    def cancel(self) -> None:
        """Stop the request, if it can be stopped."""
        if self.on_cancelled is not None:
            self.on_cancelled()

    async def aclose(self) -> None:
        """Stop listening, if it has listened."""
        if self._inbox is not None:
            await self._inbox.aclose()

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: Mapping[str, Any] | None,
        deliver: Callable[[Json], Awaitable[None]],
    ) -> Json:
        """Send a request to the client and return its result.

        `deliver` puts a message on a stream that the client sees. If the caller stops waiting for the answer,
        because of a timeout or a cancellation, the client is told so in the same way.

        Raises:
            NoBackChannelError: The client cannot be asked.
            MCPError: The client answered with an error, or not in time, or its session is gone.

        """
        from mcp.shared.exceptions import MCPError, NoBackChannelError  # noqa: PLC0415 - see the module's text
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT  # noqa: PLC0415 - the same

        if not self.can_ask:
            raise NoBackChannelError(method)
        await self.inbox.open()
        options = opts or {}
        id = new_question_id(self.name)
        try:
            answer = self.inbox.expect(id, options.get("on_progress"))
            await deliver(_request(id, method, params, wants_progress="on_progress" in options))
            async with asyncio.timeout(options.get("timeout")):
                message = await answer
        except TimeoutError:
            await self._withdraw(id, f"timed out after {options.get('timeout')}s", deliver)
            raise MCPError(code=REQUEST_TIMEOUT, message=f"Request {method!r} timed out") from None
        except ConnectionError as error:
            raise MCPError(code=CONNECTION_CLOSED, message=f"Connection closed: {error}") from error
        except asyncio.CancelledError:
            await asyncio.shield(self._withdraw(id, "caller cancelled", deliver))
            raise
        finally:
            self.inbox.forget(id)
        if "error" in message:
            error = message["error"]
            raise MCPError(code=error["code"], message=error["message"], data=error.get("data"))
        return message["result"]

    async def _withdraw(self, id: str, reason: str, deliver: Callable[[Json], Awaitable[None]]) -> None:
        params = {"requestId": id, "reason": reason}
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await deliver({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        except Exception as error:  # noqa: BLE001 - a courtesy; what is being raised matters more
            logger.debug("could not tell the client that %s is cancelled: %r", id, error)


def _request(id: str, method: str, params: Mapping[str, Any] | None, *, wants_progress: bool) -> Json:
    message: Json = {"jsonrpc": "2.0", "id": id, "method": method}
    sent = dict(params) if params is not None else {}
    if wants_progress:
        sent["_meta"] = {**(sent.get("_meta") or {}), "progressToken": id}
    if sent:
        message["params"] = sent
    return message
