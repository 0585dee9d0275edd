"""What the kit takes from the MCP SDK: the one module that imports its provisional and private parts.

Relied upon, of mcp 2.3 (`tests/test_sdk.py` fails by name when a release changes one of these):

* `mcp.server.runner.ServerRunner(server, connection, lifespan_state, init_options=…)` and its `on_request`
  and `on_notify`: the kernel; it asks the server for `get_request_handler`, `get_notification_handler`,
  `middleware`, `cache_hints`, `server_info_stamp` and `create_initialization_options`, nothing else;
* `mcp.server.runner.aclose_shielded`: ends what handlers pushed on the connection's exit stack;
* `mcp.server.connection.Connection`: `client_params`, `protocol_version` and `initialized` can be restored;
* `mcp.shared.dispatcher.DispatchContext`: what a request talks through (`Call` is ours);
* `MCPServer._lowlevel_server`, `FastMCP._mcp_server`: the lowlevel `Server` inside;
* `mcp.server._streamable_http_modern.handle_modern_request`: the 2026-07-28 entry.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.server._streamable_http_modern import handle_modern_request
from mcp.server.auth.provider import principal_components
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import HandlerEntry, NotificationOptions, Server
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data, progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    EmptyResult,
    InitializeRequestParams,
    LoggingCapability,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from starlette.requests import Request as StarletteRequest

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sessions.records import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.server.models import InitializationOptions
    from mcp.shared.dispatcher import CallOptions, Outbound

    from tmcp_serverless.sessions.records import Json, SessionRecord
    from tmcp_serverless.transports.asgi import Receive, Scope, Send
    from tmcp_serverless.transports.conversation import Conversation

__all__ = [
    "Call",
    "Connection",
    "Kernel",
    "lowlevel_server",
    "new_connection",
    "notification",
    "principal_of",
    "restore_connection",
]

logger = logging.getLogger(__name__)

_REQUEST_CANCELLED = -32800
"""What the SDK's handshake-era transport answers to a request that was cancelled."""


class Call:
    """One inbound message while its handler runs: the SDK's `DispatchContext`, over one HTTP exchange.

    Args:
        scope: The POST's ASGI scope; handlers see it as a Starlette request.
        request_id: The JSON-RPC id; `None` for a notification.
        params: The message's params; progress goes to the token in them.
        emit: Sends one JSON-RPC message on this POST's own stream.
        conversation: How the client is asked; `None` where it cannot be.
        close_stream: Ends this POST's connection so that the client resumes it; `None` where it could not.
        close_standalone_stream: The same for the session's standalone stream.

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
    ) -> None:
        request = StarletteRequest(scope)
        can_ask = conversation is not None and conversation.can_ask
        self.request_id = request_id
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=can_ask, headers=request.headers
        )
        self.message_metadata = ServerMessageMetadata(
            request_context=request,
            close_sse_stream=close_stream,
            close_standalone_sse_stream=close_standalone_stream,
            can_send_request=can_ask,
        )
        self.cancelled = False
        self._cancel_requested: anyio.Event | None = None
        self._task = asyncio.current_task()
        self._token = progress_token_from_params(params)
        self._emit = emit
        self._conversation = conversation
        self._closed = False

    @property
    def can_send_request(self) -> bool:
        """Whether the client can be asked something on this POST's stream."""
        return self.transport.can_send_request and not self._closed

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set when the client has cancelled the request."""
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client, on this POST's stream."""
        if self._conversation is None or not self.can_send_request:
            raise NoBackChannelError(method)
        return await self._conversation.ask(method, params, opts, self._emit)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification on this POST's stream."""
        del opts
        if self._closed:
            logger.debug("dropped %s: its request has been answered", method)
            return
        await self._emit(notification(method, params))

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, where the client asked for it."""
        if self._token is None:
            return
        params: Json = {"progressToken": self._token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.notify("notifications/progress", params)

    def cancel(self) -> None:
        """Stop the handler because the client said so."""
        if not self._closed and self._task is not None:
            self.cancelled = True
            self.cancel_requested.set()
            self._task.cancel()

    def close(self) -> None:
        """Say that the message has been handled: what its handler left running can send no more on it."""
        self._closed = True


def notification(method: str, params: Mapping[str, Any] | None) -> Json:
    """Return a JSON-RPC notification."""
    if params is None:
        return {"jsonrpc": "2.0", "method": method}
    return {"jsonrpc": "2.0", "method": method, "params": dict(params)}


async def _acknowledge(*_: Any) -> EmptyResult:
    """Answer what the transport itself records."""
    return EmptyResult()


_ANSWERED_BY_THE_KIT: dict[str, HandlerEntry[Any]] = {
    "logging/setLevel": HandlerEntry(SetLevelRequestParams, _acknowledge),
    "resources/subscribe": HandlerEntry(SubscribeRequestParams, _acknowledge),
    "resources/unsubscribe": HandlerEntry(UnsubscribeRequestParams, _acknowledge),
}


class _Answering:
    """A lowlevel server as the kernel sees it: with the handlers that the kit adds, itself untouched."""

    def __init__(self, server: Server[Any], added: Mapping[str, HandlerEntry[Any]]) -> None:
        self._server = server
        self._added = added

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def get_request_handler(self, method: str) -> HandlerEntry[Any] | None:
        return self._server.get_request_handler(method) or self._added.get(method)

    def create_initialization_options(self) -> InitializationOptions:
        everything = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        options = self._server.create_initialization_options(everything)
        if "logging/setLevel" in self._added:
            options.capabilities.logging = LoggingCapability()
        if "resources/subscribe" in self._added and options.capabilities.resources is not None:
            options.capabilities.resources.subscribe = True
        return options


class Kernel:
    """Somebody's MCP server, ready to handle single messages of any session.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        answer_session_methods: Whether `logging/setLevel`, `resources/subscribe` and `resources/unsubscribe`
            are answered for servers that cannot register a handler for them.

    """

    def __init__(self, server: Any, *, answer_session_methods: bool = True) -> None:
        self._lowlevel = lowlevel_server(server)
        kit_answers = answer_session_methods and self._lowlevel is not server
        added = _ANSWERED_BY_THE_KIT if kit_answers else {}
        # The kernel asks its server for a handful of members only, and this answers all of them.
        self._answering = cast("Server[Any]", _Answering(self._lowlevel, added))

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Return the server's own lifespan, to be entered once."""
        return self._lowlevel.lifespan(self._lowlevel)

    async def answer(
        self, call: Call, message: Json, connection: Connection, lifespan_state: Any
    ) -> tuple[Json, bool]:
        """Run a request, and return its JSON-RPC answer and whether that is a result."""
        runner = ServerRunner(self._answering, connection, lifespan_state)
        answer: Json = {"jsonrpc": "2.0", "id": message["id"]}
        try:
            answer["result"] = await runner.on_request(call, message["method"], message.get("params"))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not call.cancelled or task is None or task.uncancel() > 0:
                raise
            answer["error"] = {"code": _REQUEST_CANCELLED, "message": "Request cancelled"}
        except Exception as error:  # noqa: BLE001 - the boundary between handlers and the wire
            answer["error"] = _error_data(message["method"], error)
        else:
            return answer, True
        finally:
            call.close()
            await _leave(connection)
        return answer, False

    async def notify(self, call: Call, message: Json, connection: Connection, lifespan_state: Any) -> None:
        """Run a notification's handler; what it raises is logged, for there is nobody to tell."""
        runner = ServerRunner(self._answering, connection, lifespan_state)
        try:
            await runner.on_notify(call, message["method"], message.get("params"))
        except Exception:
            logger.exception("the handler for %r raised", message["method"])
        finally:
            call.close()
            await _leave(connection)

    async def serve_modern(self, lifespan_state: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of the 2026-07-28 era through the SDK's own entry."""
        await handle_modern_request(self._lowlevel, None, False, lifespan_state, scope, receive, send)


def lowlevel_server(server: Any) -> Server[Any]:
    """Return the lowlevel server inside an `MCPServer` or a `FastMCP`, or the server itself.

    Raises:
        ConfigurationError: It is none of these.

    """
    if isinstance(server, Server):
        return cast("Server[Any]", server)
    for attribute in ("_lowlevel_server", "_mcp_server"):
        inner = getattr(server, attribute, None)
        if isinstance(inner, Server):
            return cast("Server[Any]", inner)
    raise ConfigurationError(
        f"not an MCP server: {type(server).__module__}.{type(server).__qualname__} "
        "(expected mcp.server.MCPServer, mcp.server.lowlevel.Server or fastmcp.FastMCP 4.x)"
    )


class _SessionConnection(Connection):
    """A connection whose exit stack is made when a handler pushes something on it, which few do."""

    def __init__(self, outbound: Outbound, **facts: Any) -> None:
        super().__init__(outbound, **facts)
        del self.exit_stack

    def __getattr__(self, name: str) -> Any:
        if name != "exit_stack":
            raise AttributeError(name)
        self.exit_stack = AsyncExitStack()
        return self.exit_stack


async def _leave(connection: Connection) -> None:
    if "exit_stack" in vars(connection):
        await aclose_shielded(connection)


def new_connection(session_id: str, outbound: Outbound) -> Connection:
    """Return the connection of a session that `initialize` is about to make."""
    return _SessionConnection(outbound, protocol_version=LATEST_HANDSHAKE_VERSION, session_id=session_id)


def restore_connection(session_id: str, record: SessionRecord, outbound: Outbound) -> Connection:
    """Return the connection of a session as `initialize` left it."""
    params = {
        "protocolVersion": record.protocol_version,
        "capabilities": record.client_capabilities,
        "clientInfo": record.client_info,
    }
    connection = _SessionConnection(
        outbound,
        protocol_version=record.protocol_version,
        session_id=session_id,
        client_params=InitializeRequestParams.model_validate(params, by_name=False),
    )
    if record.initialized:
        connection.initialized.set()
    return connection


def principal_of(scope: Scope) -> str:
    """Return who is asking, as the authentication before us found out; the anonymous principal otherwise."""
    user = scope.get("user")
    token = getattr(user, "access_token", None)
    if token is not None:
        client_id, issuer, subject = principal_components(token)
        return json.dumps([issuer, client_id, subject])
    if getattr(user, "is_authenticated", False):
        return json.dumps([None, None, str(getattr(user, "identity", "") or getattr(user, "username", ""))])
    return ANONYMOUS


def _error_data(method: str, error: Exception) -> Json:
    data = handler_exception_to_error_data(error)
    if data is None:
        logger.error("the handler for %r raised", method, exc_info=error)
        return {"code": 0, "message": str(error)}
    return data.model_dump(mode="json", exclude_unset=True)
