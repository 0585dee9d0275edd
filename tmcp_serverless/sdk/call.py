"""One inbound message while its handler runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from starlette.requests import Request as StarletteRequest

from tmcp_serverless.sessions.send_order import SendOrder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.shared.dispatcher import CallOptions

    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.asgi import Scope
    from tmcp_serverless.transports.conversation import Conversation

__all__ = ["Call"]

logger = logging.getLogger(__name__)


class Call:
    """One inbound message while its handler runs: the SDK's `DispatchContext`, over one HTTP exchange.

    Args:
        scope: The POST's ASGI scope; handlers see it as a Starlette request.
        request_id: The JSON-RPC id; `None` for a notification.
        params: The message's params; progress goes to the token in them.
        emit: Sends one JSON-RPC message on this POST's own stream.
        conversation: Sends server requests to the client; `None` if it cannot be asked.
        close_stream: Ends this POST's connection so that the client resumes it; `None` if it could not.
        close_standalone_stream: The same for the session's standalone stream.
        kind: The transport, as handlers see it.

    """

    def __init__(
        self,
        scope: Scope,
        request_id: str | int | None,
        params: Json | None,
        *,
        emit: Callable[[Json], Awaitable[None]],
        conversation: Conversation | None = None,
        close_stream: Callable[[], Awaitable[None]] | None = None,
        close_standalone_stream: Callable[[], Awaitable[None]] | None = None,
        kind: str = "streamable-http",
    ) -> None:
        request = StarletteRequest(scope)
        can_ask = conversation is not None and conversation.can_ask
        self.request_id = request_id
        self.transport = TransportContext(kind=kind, can_send_request=can_ask, headers=request.headers)
        self.message_metadata = ServerMessageMetadata(
            request_context=request,
            close_sse_stream=close_stream,
            close_standalone_sse_stream=close_standalone_stream,
            can_send_request=can_ask,
        )
        self.cancelled = False
        self._cancel_requested: anyio.Event | None = None
        self._task: asyncio.Task[Any] | None = None
        self._token = progress_token_from_params(params)
        self._emit = emit
        self._conversation = conversation
        self._order: SendOrder | None = None
        """The order of the messages on this stream, once a question is among them."""

        self._closed = False

    @property
    def can_send_request(self) -> bool:
        """True if the client can be asked on this POST's stream."""
        return self.transport.can_send_request and not self._closed

    @property
    def cancel_requested(self) -> anyio.Event:
        """The event that is set when the client has cancelled the request."""
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client, on this POST's stream."""
        if self._conversation is None or not self.can_send_request:
            raise NoBackChannelError(method)
        if self._order is None:
            self._order = SendOrder()
        # Its place is taken before its inbox is opened: later messages do not overtake it.
        with self._order.reserved("", send=self._emit) as deliver:
            return await self._conversation.ask(method, params, opts, deliver)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification on this POST's stream."""
        del opts
        if self._closed:
            logger.debug("dropped %s: its request has been answered", method)
            return
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = dict(params)
        if self._order is None:
            await self._emit(message)
            return
        with self._order.take("") as turn:
            await turn.come()
            await self._emit(message)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the client asked for it."""
        if self._token is None:
            return
        params: Json = {"progressToken": self._token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.notify("notifications/progress", params)

    def begin(self) -> None:
        """Record that the handler runs from now on, in the calling task."""
        self._task = asyncio.current_task()

    def cancel(self) -> None:
        """Stop the handler because the client said so.

        It is stopped once: later awaits, while it cleans up, are not cancelled. Before the handler has begun,
        this only marks the call, and the handler never begins.
        """
        if self.cancelled or self._closed:
            return
        self.cancelled = True
        self.cancel_requested.set()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Record that the message has been handled: tasks left by its handler can send no more on it.

        From here on the task counts as cancelled only if its host has cancelled it too.
        """
        if not self._closed:
            self._closed = True
            if self.cancelled and self._task is not None:
                self._task.uncancel()
