"""One running request: its messages to the client, its server requests, its cancellation, and its end.

A request that is answered at once, as most are, pays for one timer. Its inbox is made when it is needed.

Imports `mcp`, as `runner` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from starlette.requests import Request as StarletteRequest

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.handshake.addresses import request_name
from tmcp_serverless.handshake.inbox import Inbox
from tmcp_serverless.handshake.session_messages import SessionMessages, is_below_level
from tmcp_serverless.http import notification, platform_of
from tmcp_serverless.sessions import SendOrder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from mcp.shared.dispatcher import CallOptions

    from tmcp_serverless.handshake.post_response import ResponseWriter
    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.http import HttpOptions, Scope
    from tmcp_serverless.sessions import Json, SessionManagers

__all__ = ["RunningRequest"]

logger = logging.getLogger(__name__)

_LASTING_SECONDS = 0.1
"""Seconds after which a running request listens for its cancellation."""


class RunningRequest:
    """One request or notification while its handler runs: the SDK's `DispatchContext`, over one POST.

    It is entered (`async with`) while the handler runs. If it lasts, it listens in its inbox for messages of
    the client, and its response turns into a stream that ends before the platform does.

    Args:
        message: The request, or the notification.
        session: Its session.
        scope: The POST's ASGI scope; handlers see it as a Starlette request.
        managers: The managers of the session.
        options: The transport's options.
        response: Takes the handler's messages; `None` for a notification, and for `initialize`.
        can_send_requests: `True` if the client can be sent server requests while the message is handled.

    """

    def __init__(
        self,
        message: Json,
        *,
        session: LoadedSession,
        scope: Scope,
        managers: SessionManagers,
        options: HttpOptions,
        response: ResponseWriter | None,
        can_send_requests: bool,
    ) -> None:
        self.message = message
        self.session = session
        self.response = response
        self.can_send_requests = can_send_requests
        self.request_id: str | int | None = message.get("id")
        request, on_response = StarletteRequest(scope), can_send_requests and response is not None
        self.transport = TransportContext(
            kind="sse" if session.is_http_sse else "streamable-http",
            can_send_request=on_response,
            headers=request.headers,
        )
        can_close = response is not None and response.can_close
        close_standalone = partial(managers.streams.release, session.id)
        self.message_metadata = ServerMessageMetadata(
            request_context=request,
            close_sse_stream=response.close_connection if response is not None and can_close else None,
            close_standalone_sse_stream=close_standalone if can_close else None,
            can_send_request=on_response,
        )
        self.cancelled = False
        self._scope = scope
        self._managers = managers
        self._options = options
        self._log_level = session.record.log_level if options.answer_session_methods else None
        self._token = progress_token_from_params(message.get("params"))
        self._cancel_requested: anyio.Event | None = None
        self._task: asyncio.Task[Any] | None = None
        self._closed = False
        self._order: SendOrder | None = None
        """The order of the messages on the response, once a server request is among them."""

        self._began_at = time.time()
        self._inbox: Inbox | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lasts = False
        self._ending: asyncio.Task[None] | None = None

    # Messages to the client

    @property
    def can_send_request(self) -> bool:
        """`True` if the client can be sent a server request on the response."""
        return self.transport.can_send_request and not self._closed

    @property
    def session_messages(self) -> SessionMessages:
        """The way to the client for messages that belong to no request."""
        return SessionMessages(self, self._managers.streams)

    @property
    def has_own_stream(self) -> bool:
        """`True` if the response is another stream than the session's."""
        return self.response is not None and not self.session.is_http_sse

    def wants(self, message: Json) -> bool:
        """Return `False` for a log message below the level that the session has set."""
        return self._log_level is None or not is_below_level(message, self._log_level)

    async def emit(self, message: Json) -> None:
        """Send a message on the response; a notification's handler sends it to the session."""
        if self.response is not None:
            if self.wants(message):
                await self.response.emit(message)
        elif self.request_id is None:
            await self.session_messages.notify(message["method"], message.get("params"))
        else:
            logger.debug("dropped %s: `initialize` has no stream yet", message["method"])

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification on the response."""
        del opts
        if self._closed:
            logger.debug("dropped %s: its request has been answered", method)
            return
        message = notification(method, params)
        if self._order is None:
            await self.emit(message)
            return
        with self._order.take("") as turn:
            await turn.come()
            await self.emit(message)

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

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send a server request on the response, and return the client's result."""
        if not self.can_send_request:
            raise NoBackChannelError(method)
        if self._order is None:
            self._order = SendOrder()
        # Its turn is taken before its inbox is opened: later messages do not overtake it.
        with self._order.reserved("", send=self.emit) as send:
            return await self.send_server_request(method, params, opts, send)

    async def send_server_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: Mapping[str, Any] | None,
        send: Callable[[Json], Awaitable[None]],
    ) -> Json:
        """Send a server request, and return the client's result. `send` puts it on a stream.

        Raises:
            NoBackChannelError: The client cannot be sent requests.
            MCPError: As for `Inbox.request`.

        """
        if not self.can_send_requests:
            raise NoBackChannelError(method)
        if self._inbox is None:
            self._inbox = self._new_inbox()
        return await self._inbox.request(method, params, opts, send)

    # Beginning, cancellation and end of the handler

    @property
    def cancel_requested(self) -> anyio.Event:
        """The event that is set when the client has cancelled the request."""
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    def begin(self) -> None:
        """Record that the handler runs from now on, in the calling task."""
        self._task = asyncio.current_task()

    def cancel(self) -> None:
        """Stop the handler because the client said so. A notification's handler cannot be stopped.

        It is stopped once: later awaits, while it cleans up, are not cancelled. Before the handler has begun,
        this only marks the request, and the handler never begins.
        """
        if self.cancelled or self._closed or self.request_id is None:
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

    # A handler that lasts

    async def __aenter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._begin_to_last)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A task that a handler has left running cannot ask: nothing would hear the reply any more.
        self.can_send_requests = False
        if self._inbox is not None:
            # In a task of its own, so that the inbox is released even if the host stops this task meanwhile.
            self._ending = asyncio.create_task(self._close_inbox(self._inbox))
            await asyncio.shield(self._ending)

    def _begin_to_last(self) -> None:
        self._lasts = True
        if self._inbox is not None:
            self._inbox.keep_open(self._session_exists)
        elif self.request_id is not None:
            # The client may cancel a request. Of a notification it hears no more, unless it is asked.
            self._inbox = self._new_inbox()
        platform = platform_of(self._scope)
        if self.response is not None and platform.streams:
            left = platform.stream_seconds(self._options.stream_max_seconds, resumable=True)
            defer = min(self._options.defer_seconds, left)
            self.response.keep_alive(
                after_seconds=max(0.0, defer - _LASTING_SECONDS), until_seconds=max(0.0, left - defer)
            )

    def _new_inbox(self) -> Inbox:
        inbox = Inbox(
            *(self._managers.streams, self.session.id, request_name(self.request_id)),
            began_at=self._began_at,
            on_cancelled=self.cancel,
        )
        if self._lasts:
            inbox.keep_open(self._session_exists)
        return inbox

    async def _session_exists(self) -> bool:
        return await self.session.still_exists(self._managers.info)

    @staticmethod
    async def _close_inbox(inbox: Inbox) -> None:
        try:
            await inbox.aclose()
        except TmcpError as error:
            logger.debug("an inbox is left to expire: %s", error)
