"""The kernel: runs single messages of any session on an MCP server."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from mcp.server.lowlevel.server import HandlerEntry, NotificationOptions
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INTERNAL_ERROR,
    EmptyResult,
    LoggingCapability,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from tmcp_serverless.exits import is_end_of
from tmcp_serverless.sdk.server_kind import lowlevel_server
from tmcp_serverless.tracebacks import log_failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.server.lowlevel.server import Server
    from mcp.server.models import InitializationOptions

    from tmcp_serverless.sdk.connection import SessionConnection
    from tmcp_serverless.sessions import Json

__all__ = ["Kernel", "KernelCall", "ServerView", "exit_data"]

logger = logging.getLogger(__name__)

_CANCELLED: Json = {"code": -32800, "message": "Request cancelled"}
"""The error of a cancelled request, as in the SDK's handshake-era transport."""


async def _acknowledge(*_: Any) -> EmptyResult:
    """Answer a request that the transport itself records."""
    return EmptyResult()


_ANSWERED_BY_THE_KIT: dict[str, HandlerEntry[Any]] = {
    "logging/setLevel": HandlerEntry(SetLevelRequestParams, _acknowledge),
    "resources/subscribe": HandlerEntry(SubscribeRequestParams, _acknowledge),
    "resources/unsubscribe": HandlerEntry(UnsubscribeRequestParams, _acknowledge),
}


class ServerView:
    """A lowlevel server as the SDK sees it. A subclass replaces members; the server itself is untouched.

    The SDK's kernel and its modern entry ask their server for a handful of members only, and a view has all
    of them.
    """

    def __init__(self, server: Server[Any]) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    @property
    def as_server(self) -> Server[Any]:
        """The view, with the type that the SDK's functions want."""
        return cast("Server[Any]", self)


class _HandshakeView(ServerView):
    """A server with the handlers that the kit adds, and capabilities that say so.

    Args:
        server: The server.
        added: The handlers of requests that the server has none for.
        pushes: True if clients can be sent unrequested messages.

    """

    def __init__(self, server: Server[Any], added: Mapping[str, HandlerEntry[Any]], *, pushes: bool) -> None:
        super().__init__(server)
        self._added = added
        self._pushes = pushes

    def get_request_handler(self, method: str) -> HandlerEntry[Any] | None:
        return self._server.get_request_handler(method) or self._added.get(method)

    def create_initialization_options(self) -> InitializationOptions:
        pushes = self._pushes
        changes = NotificationOptions(prompts_changed=pushes, resources_changed=pushes, tools_changed=pushes)
        options = self._server.create_initialization_options(changes)
        if "logging/setLevel" in self._added:
            options.capabilities.logging = LoggingCapability()
        if options.capabilities.resources is not None:
            if "resources/subscribe" in self._added:
                options.capabilities.resources.subscribe = True
            if not pushes:
                options.capabilities.resources.subscribe = False
        return options


class KernelCall(DispatchContext[TransportContext], Protocol):
    """One inbound message while its handler runs, as the kernel needs it: the SDK's context, and its ends."""

    cancelled: bool
    """True if the client has cancelled the message."""

    def begin(self) -> None:
        """Record that the handler runs from now on, in the calling task."""
        ...

    def close(self) -> None:
        """Record that the message has been handled."""
        ...


class Kernel:
    """An MCP server, ready to handle single messages of any session.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        answer_session_methods: True to answer `logging/setLevel`, `resources/subscribe` and
            `resources/unsubscribe` for servers that cannot register a handler for them.

    """

    def __init__(self, server: Any, *, answer_session_methods: bool = True) -> None:
        self._lowlevel = lowlevel_server(server)
        kit_answers = answer_session_methods and self._lowlevel is not server
        added = _ANSWERED_BY_THE_KIT if kit_answers else {}
        self._answering = _HandshakeView(self._lowlevel, added, pushes=True).as_server
        self._pushing_nothing = _HandshakeView(self._lowlevel, added, pushes=False).as_server

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Return the server's own lifespan, to be entered once."""
        return self._lowlevel.lifespan(self._lowlevel)

    async def answer(
        self,
        call: KernelCall,
        message: Json,
        connection: SessionConnection,
        lifespan_state: Any,
        *,
        pushes: bool = True,
    ) -> tuple[Json, bool]:
        """Run a request, and return its JSON-RPC answer, and true if that is a result.

        `pushes`: true if clients can be sent unrequested messages; if not, `initialize` says so.
        """
        answering = self._answering if pushes else self._pushing_nothing
        runner = ServerRunner(answering, connection, lifespan_state)
        answer: Json = {"jsonrpc": "2.0", "id": message["id"]}
        if call.cancelled:
            # It was cancelled while the server was started for it.
            call.close()
            return {**answer, "error": _CANCELLED}, False
        call.begin()
        task = asyncio.current_task()
        try:
            answer["result"] = await runner.on_request(call, message["method"], message.get("params"))
        except Exception as error:  # noqa: BLE001 - the boundary between handlers and the wire
            answer["error"] = _error_data(message["method"], error)
        except BaseException as error:
            call.close()
            if is_end_of(task, error):
                raise
            cancelled = call.cancelled and isinstance(error, asyncio.CancelledError)
            answer["error"] = _CANCELLED if cancelled else exit_data(message["method"], error)
        else:
            return answer, True
        finally:
            call.close()
            await connection.leave()
        return answer, False

    async def notify(
        self, call: KernelCall, message: Json, connection: SessionConnection, lifespan_state: Any
    ) -> None:
        """Run a notification's handler. Its exceptions are logged: a notification has no answer."""
        runner = ServerRunner(self._answering, connection, lifespan_state)
        task = asyncio.current_task()
        try:
            await runner.on_notify(call, message["method"], message.get("params"))
        except Exception as error:  # noqa: BLE001 - the boundary between handlers and the wire
            log_failure(logger, "the handler for %r raised", message["method"], error=error)
        except BaseException as error:
            if is_end_of(task, error):
                raise
            exit_data(message["method"], error)
        finally:
            call.close()
            await connection.leave()


def exit_data(method: str, error: BaseException) -> Json:
    """Return the JSON-RPC error of a handler that exited, or awaited something that was cancelled; log it."""
    if isinstance(error, asyncio.CancelledError):
        log_failure(logger, "the handler for %r awaited something that was cancelled", method, error=error)
        return {"code": INTERNAL_ERROR, "message": "The request failed: what it waited for was cancelled"}
    name = type(error).__name__
    log_failure(logger, "the handler for %r exited with %s", method, name, error=error)
    return {"code": INTERNAL_ERROR, "message": f"The request failed: its handler exited with {name}"}


def _error_data(method: str, error: Exception) -> Json:
    data = handler_exception_to_error_data(error)
    if data is None:
        log_failure(logger, "the handler for %r raised", method, error=error)
        return {"code": 0, "message": str(error)}
    return data.model_dump(mode="json", exclude_unset=True)
