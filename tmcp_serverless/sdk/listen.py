"""`subscriptions/listen`, served by the SDK's own handler, bounded by what the host allows.

(2026-07-28, basic/patterns/subscriptions)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.sessions.bus import StreamSubscriptionBus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus
    from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams, SubscriptionsListenResult

    from tmcp_serverless.transports.asgi import Scope

__all__ = ["Listen", "bus_of", "connect"]

_MOST_STREAMS = 1024
"""How many listen streams one process holds: what the SDK's handler allows as it comes."""


class Listen:
    """The handler of `subscriptions/listen`: one call is one stream.

    Each stream ends by itself, with a result, before its host would end it, and when the process is drained;
    one that asks for nothing ends at once. Clients listen again, and refetch.

    Args:
        bus: Where events come from.
        lifetime: Returns how many seconds a stream may last, from the request's ASGI scope.

    """

    def __init__(self, bus: SubscriptionBus, lifetime: Callable[[Scope], float]) -> None:
        self._bus = bus
        self._lifetime = lifetime
        self._open: set[ListenHandler] = set()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream. The doorbell is up before its acknowledgement goes out."""
        if len(self._open) >= _MOST_STREAMS:
            raise MCPError(INTERNAL_ERROR, "Subscription limit reached")
        scope: Scope = {} if ctx.request is None else ctx.request.scope
        seconds = self._lifetime(scope) if _asks_for_something(params.notifications) else 0
        handler = ListenHandler(self._bus)
        async with self._listening(handler.close):
            self._open.add(handler)
            # Not before the handler has begun: it would not know of a stream to close.
            ending = asyncio.get_running_loop().call_later(seconds, handler.close)
            try:
                return await handler(ctx, params)
            finally:
                ending.cancel()
                self._open.discard(handler)

    def drain(self) -> None:
        """End every stream of this process; clients listen again at another instance."""
        for handler in list(self._open):
            handler.close()

    @asynccontextmanager
    async def _listening(self, on_lost: Callable[[], None]) -> AsyncGenerator[None]:
        if not isinstance(self._bus, StreamSubscriptionBus):
            yield
            return
        try:
            held = self._bus.listening(on_lost)
            await held.__aenter__()
        except TmcpError as error:
            raise MCPError(INTERNAL_ERROR, "The session store cannot be reached; try again") from error
        try:
            yield
        finally:
            await held.__aexit__(None, None, None)


def connect(server: Any, bus: StreamSubscriptionBus) -> None:
    """Let an `MCPServer` publish to this bus, unless it was given one of its own."""
    if type(getattr(server, "_subscriptions", None)) in (InMemorySubscriptionBus, StreamSubscriptionBus):
        server._subscriptions = bus  # noqa: SLF001 - relied upon


def bus_of(server: Any, handler: Any, bus: StreamSubscriptionBus) -> SubscriptionBus | None:
    """Return where the server's listen streams hear from; `None` where it has none, or serves them itself.

    Args:
        server: An `MCPServer`, a `FastMCP` or a lowlevel `Server`.
        handler: What it has registered for `subscriptions/listen`.
        bus: The kit's.

    """
    if isinstance(handler, ListenHandler):
        own: SubscriptionBus = cast("Any", handler)._bus  # noqa: SLF001 - relied upon
        return bus if isinstance(own, InMemorySubscriptionBus) and hasattr(server, "_subscriptions") else own
    # A FastMCP has no streams of its own, and no way to register any.
    return bus if handler is None and hasattr(server, "_mcp_server") else None


def _asks_for_something(wanted: SubscriptionFilter) -> bool:
    return bool(
        wanted.tools_list_changed
        or wanted.prompts_list_changed
        or wanted.resources_list_changed
        or wanted.resource_subscriptions
    )
