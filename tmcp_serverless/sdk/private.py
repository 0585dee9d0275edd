"""Private names of the SDK and of FastMCP: no other module touches them.

Each function names one of them, and the release that it was read in: mcp 2.3, FastMCP 4.0.
`tests/test_sdk.py` fails by name when a release changes one. Importing this imports no `mcp`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp.server.request_state import RequestStateSecurity
    from mcp.server.session import ServerSession
    from mcp.server.subscriptions import ListenHandler, SubscriptionBus
    from starlette.applications import Starlette

__all__ = [
    "application_of",
    "bus_of",
    "copy_for_one_stream",
    "lowlevel_in_fastmcp",
    "lowlevel_in_mcpserver",
    "modern_entry",
    "most_streams",
    "publish_to",
    "publishing_bus",
    "request_state_policy",
    "routes_of_fastmcp",
    "routes_of_mcpserver",
    "take_over_session",
    "tool_behind",
    "tool_function",
]


def lowlevel_in_mcpserver(server: Any) -> Any:
    """Return the lowlevel `Server` in an `MCPServer`: `_lowlevel_server` (mcp 2.3)."""
    return server._lowlevel_server


def lowlevel_in_fastmcp(server: Any) -> Any:
    """Return the lowlevel `Server` in a `FastMCP`: `_mcp_server` (FastMCP 4.0)."""
    return server._mcp_server


def application_of(server: Any, lowlevel: Any, path: str) -> Starlette:
    """Return the Starlette application that a server makes of itself, and leave the server as it was.

    The session manager that the lowlevel server keeps, `_session_manager` (mcp 2.3), belongs to an
    application that the server's owner may have made.
    """
    before = lowlevel._session_manager
    try:
        return server.streamable_http_app(streamable_http_path=path)
    finally:
        lowlevel._session_manager = before


def routes_of_mcpserver(server: Any) -> Sequence[Any]:
    """Return the routes that an `MCPServer` was given: `_custom_starlette_routes` (mcp 2.3)."""
    return server._custom_starlette_routes


def routes_of_fastmcp(server: Any) -> Sequence[Any]:
    """Return the routes that a `FastMCP` was given: `_get_additional_http_routes` (FastMCP 4.0)."""
    return server._get_additional_http_routes()


def modern_entry() -> Callable[..., Awaitable[None]]:
    """Return the entry of 2026-07-28: `mcp.server._streamable_http_modern.handle_modern_request` (mcp 2.3).

    It asks its server for `get_request_handler`, `get_tool_input_schema` and the members of the kernel.
    """
    from mcp.server._streamable_http_modern import handle_modern_request

    return handle_modern_request


def bus_of(handler: ListenHandler) -> SubscriptionBus:
    """Return the bus that a listen handler hears from: `ListenHandler._bus` (mcp 2.3)."""
    private: Any = handler
    return private._bus


def most_streams(handler: ListenHandler) -> int | None:
    """Return the limit on a listen handler's streams: `ListenHandler._max_subscriptions` (mcp 2.3)."""
    private: Any = handler
    return private._max_subscriptions


def copy_for_one_stream(handler: ListenHandler, bus: SubscriptionBus) -> ListenHandler:
    """Return a listen handler for one stream that hears from the bus, with the limits of the original.

    `ListenHandler._streams` (mcp 2.3): the open streams. `close` of either handler ends this one.
    """
    one: Any = copy.copy(handler)
    one._streams, one._bus = _SharedStreams(one._streams), bus
    return one


class _SharedStreams(set[Any]):
    """The open streams of a copy. The original knows them too, so that its `close` ends them."""

    def __init__(self, original: set[Any]) -> None:
        super().__init__()
        self._original = original

    def add(self, element: Any, /) -> None:
        super().add(element)
        self._original.add(element)

    def discard(self, element: Any, /) -> None:
        super().discard(element)
        self._original.discard(element)


def publishing_bus(server: Any) -> SubscriptionBus:
    """Return the bus that an `MCPServer` publishes to: `MCPServer._subscriptions` (mcp 2.3)."""
    return server._subscriptions


def publish_to(server: Any, bus: SubscriptionBus) -> None:
    """Let an `MCPServer` publish to this bus: `MCPServer._subscriptions` (mcp 2.3)."""
    server._subscriptions = bus


def request_state_policy(boundary: Any) -> tuple[RequestStateSecurity, str | None]:
    """Return a boundary's policy and audience: `RequestStateBoundary._security`, `._audience` (mcp 2.3)."""
    return boundary._security, boundary._audience


def take_over_session(session: ServerSession, other: ServerSession) -> None:
    """Give a session all that another one has: every attribute of `ServerSession` (mcp 2.3)."""
    vars(session).update(vars(other))


def tool_function(server: Any, name: str) -> Any:
    """Return the function of an `MCPServer`'s tool, or `None`: `MCPServer._tool_manager` (mcp 2.3)."""
    return getattr(server._tool_manager.get_tool(name), "fn", None)


async def tool_behind(tool: Any) -> Any:
    """Return the tool that a `FastMCP`'s tool stands for; `None` if it stands for itself.

    It is a tool with other arguments, or one of a mounted server: `_server`, `_original_name` (FastMCP 4.0).
    """
    if hasattr(tool, "parent_tool"):
        return tool.parent_tool
    if getattr(tool, "_server", None) is not None:
        return await tool._server.get_tool(tool._original_name)
    return None
