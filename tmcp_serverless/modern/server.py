"""The modern era (2026-07-28): an MCP server as the SDK's own entry gets it.

The SDK does the protocol: envelope, headers, `Mcp-Param-*`, media types, cancellation by disconnect. The kit
puts the parts for several instances around the handlers: listen streams that hear of other instances' events,
request states that any instance opens, and tools that are run again. The server itself is untouched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcp.server.caching import CACHEABLE_METHODS, CacheHint
from mcp.server.lowlevel.server import HandlerEntry
from mcp.server.request_state import RequestStateBoundary
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, DiscoverResult, SubscriptionsListenRequestParams

from tmcp_serverless.exits import current_task, is_end_of
from tmcp_serverless.http import LONG_URI_TEXT, has_long_uri
from tmcp_serverless.modern.listen import Listen, listen_of
from tmcp_serverless.modern.own_bus import LISTEN, connect
from tmcp_serverless.modern.refusing import RefusedError, scope_of
from tmcp_serverless.modern.replay import Replay
from tmcp_serverless.modern.request_state import SharedRequestState, StateKeys
from tmcp_serverless.sdk.kernel import ServerView, exit_data
from tmcp_serverless.sdk.private import modern_entry
from tmcp_serverless.sdk.server_kind import lowlevel_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext

    from tmcp_serverless.http import Receive, Scope, Send
    from tmcp_serverless.modern.bus import StreamSubscriptionBus
    from tmcp_serverless.modern.refusing import Refuse

__all__ = ["ModernParts", "ModernServer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernParts:
    """The parts that the kit adds to a server."""

    bus: StreamSubscriptionBus
    keys: StateKeys
    lifetime: Callable[[Scope], float]
    """Returns the seconds that a listen stream may last."""

    sharing: Callable[[Scope], AbstractAsyncContextManager[bool]]
    """Holds a listen stream's share; entered with false, the stream ends at once."""

    refuse: Refuse
    """Called for a request that ends because a session manager has failed."""

    hurry: Callable[[Scope], None]
    """Called for a listen stream that has to end: its client may not read."""

    replayable: Sequence[str]
    """Names of tools that are replayable though their functions are not marked."""

    cache_hint: CacheHint
    """The hint for results that have none from the server itself."""


class ModernServer:
    """An MCP server, ready for requests of the modern era.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        parts: The parts that are added to it.

    """

    def __init__(self, server: Any, parts: ModernParts) -> None:
        connect(server, parts.bus)
        self._listen = listen_of(server, parts)
        self._seen = _ModernView(server, parts, self._listen).as_server
        self._entry = modern_entry()

    async def serve(self, lifespan_state: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request through the SDK's own entry."""
        await self._entry(self._seen, None, False, lifespan_state, scope, receive, send)

    def drain(self) -> None:
        """End the open listen streams."""
        if self._listen is not None:
            self._listen.drain()


class _ModernView(ServerView):
    """A server with the parts that the kit adds.

    Args:
        original: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        parts: The parts.
        listen: The handler of its listen streams; `None` if it has none that the kit serves.

    """

    def __init__(self, original: Any, parts: ModernParts, listen: Listen | None) -> None:
        super().__init__(lowlevel_server(original))
        self._original = original
        self._parts = parts
        self._listen = listen

    @property
    def cache_hints(self) -> dict[str, CacheHint]:
        return {**dict.fromkeys(CACHEABLE_METHODS, self._parts.cache_hint), **self._server.cache_hints}

    @cached_property
    def middleware(self) -> list[ServerMiddleware[Any]]:
        chain: list[ServerMiddleware[Any]] = [
            # A subclass has rules of its own, and ours would not have them.
            SharedRequestState(each, self._parts.keys) if type(each) is RequestStateBoundary else each
            for each in self._server.middleware
        ]
        sealed = any(isinstance(each, SharedRequestState | RequestStateBoundary) for each in chain)
        # A lowlevel server that has no boundary may seal its states itself: only those of replays are ours.
        boundary = SharedRequestState(None, self._parts.keys, audience=self._server.name)
        names = self._parts.replayable
        replay = Replay(self._original, self._server, names, boundary=None if sealed else boundary)
        return [self._answer_failures, *chain, replay]

    async def _answer_failures(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Run the other middleware and the handler. A refusal or an exit there is the request's answer.

        So is a URI that is too long.
        """
        task = current_task()
        if has_long_uri(ctx.params):
            raise MCPError(INVALID_PARAMS, LONG_URI_TEXT)
        try:
            return await call_next(ctx)
        except RefusedError as refused:
            message = self._parts.refuse(scope_of(ctx), refused.reason)
            raise MCPError(INTERNAL_ERROR, message) from refused.reason
        except Exception:
            raise
        except BaseException as error:
            if is_end_of(task, error):
                raise
            data = exit_data(ctx.method, error)
            raise MCPError(code=data["code"], message=data["message"]) from error

    def get_request_handler(self, method: str) -> HandlerEntry[Any] | None:
        entry = self._server.get_request_handler(method)
        if self._listen is None:
            return entry
        if method == LISTEN:
            return HandlerEntry(SubscriptionsListenRequestParams, self._listen)
        if method == "server/discover" and entry is not None:
            return HandlerEntry(entry.params_type, _Discovery(entry.handler))
        return entry


class _Discovery:
    """`server/discover`, of a server that serves listen streams though it may not know."""

    def __init__(self, discover: Any) -> None:
        self._discover = discover

    async def __call__(self, ctx: Any, params: Any) -> Any:
        result = await self._discover(ctx, params)
        if isinstance(result, DiscoverResult):
            offered = result.capabilities
            for part in (offered.tools, offered.prompts, offered.resources):
                if part is not None:
                    part.list_changed = True
            if offered.resources is not None:
                offered.resources.subscribe = True
        return result
