"""A server's own bus and handler of listen streams, beside the kit's bus."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

from tmcp_serverless.modern.bus import StreamSubscriptionBus
from tmcp_serverless.sdk import private
from tmcp_serverless.sdk.server_kind import lowlevel_server, server_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.subscriptions import SubscriptionBus
    from mcp.shared.subscriptions import ServerEvent

__all__ = ["LISTEN", "BothBuses", "connect", "own_handler", "warn_of_another_namespace"]

logger = logging.getLogger(__name__)

LISTEN = "subscriptions/listen"


class BothBuses:
    """The bus that a server was made with, and the kit's: a stream hears from both.

    An owner that has kept the first may publish to it directly.

    Args:
        shared: The kit's.
        own: The server's, of this process.

    """

    def __init__(self, shared: StreamSubscriptionBus, own: InMemorySubscriptionBus) -> None:
        self.shared = shared
        self._own = own

    async def publish(self, event: ServerEvent) -> None:
        """Publish to the kit's bus."""
        await self.shared.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call the listener with each event of either bus; return a function that ends this."""
        leave_shared, leave_own = self.shared.subscribe(listener), self._own.subscribe(listener)

        def unsubscribe() -> None:
            leave_own()
            leave_shared()

        return unsubscribe


def connect(server: Any, bus: StreamSubscriptionBus) -> None:
    """Let an `MCPServer` publish to this bus, unless it was given one of its own.

    It keeps the SDK's bus if this one reaches no other instance, or if its own handler serves its listen
    streams.

    Args:
        server: An `MCPServer`; another server has no bus, and is left as it is.
        bus: The kit's.

    """
    handler = own_handler(server)
    if server_kind(server) != "MCPServer" or not isinstance(handler, ListenHandler):
        return
    own = private.bus_of(handler)
    if type(own) is not InMemorySubscriptionBus:
        return
    if type(handler) is not ListenHandler:
        logger.warning(
            "%s serves the listen streams itself, from a bus in memory: changes on other instances are "
            "not heard; give it a PostgresSubscriptionBus",
            type(handler).__name__,
        )
    elif type(private.publishing_bus(server)) in (InMemorySubscriptionBus, StreamSubscriptionBus):
        private.publish_to(server, bus if bus.reaches_others else own)


def own_handler(server: Any) -> Any:
    """Return a server's handler for `subscriptions/listen`; `None` if it has none."""
    entry = lowlevel_server(server).get_request_handler(LISTEN)
    return None if entry is None else entry.handler


def warn_of_another_namespace(own: SubscriptionBus, bus: StreamSubscriptionBus) -> None:
    """Warn of a server's own bus in another part of the store than the sessions."""
    if isinstance(own, StreamSubscriptionBus) and own.namespace != bus.namespace:
        logger.warning(
            "the server's own bus is in another namespace (%r) than its sessions (%r), so its listen streams "
            "do not hear what a notifier tells: make it with namespace=",
            own.namespace,
            bus.namespace,
        )
