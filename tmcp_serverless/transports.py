"""The transports of one handler: one for each kind of client, over the same server and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tmcp_serverless.handshake import HttpSseTransport, HttpTransport
from tmcp_serverless.http import ConnectionOptions, HttpOptions, OriginPolicy
from tmcp_serverless.modern import ModernOptions, ModernTransport, StreamSubscriptionBus
from tmcp_serverless.sdk.runtime import ServerRuntime
from tmcp_serverless.sessions import StreamShare

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.config import Settings
    from tmcp_serverless.http import ASGIApp, Scope
    from tmcp_serverless.sessions import SessionManagers

__all__ = ["Transports"]


class Transports:
    """The transports for each kind of client, over the same server and the same sessions.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        managers: The managers of its sessions.
        settings: The settings.
        principal: Returns the caller's principal; `None`: the one that the authentication before us found.

    """

    def __init__(
        self,
        server: Any,
        managers: SessionManagers,
        settings: Settings,
        *,
        principal: Callable[[Scope], str] | None,
    ) -> None:
        self.bus = bus = StreamSubscriptionBus(
            managers.topic, reaches_others=managers.events is not None, order=managers.streams.send_order
        )
        self.runtime = runtime = ServerRuntime(
            server, answer_session_methods=settings.answer_session_methods, prepare=self._connect
        )
        self.policy = policy = OriginPolicy(
            allowed_hosts=settings.allowed_hosts, allowed_origins=settings.allowed_origins
        )
        options = settings.options(HttpOptions)
        self.connection_options = settings.options(ConnectionOptions)
        self.handshake = HttpTransport(
            runtime,
            session_manager=managers,
            path=settings.path,
            principal=principal,
            policy=policy,
            options=options,
        )
        self.modern = ModernTransport(
            runtime,
            bus=bus,
            keys=managers.keys,
            share=StreamShare(managers.streams, settings.function_streams),
            http=options,
            options=settings.options(ModernOptions),
            principal=principal,
        )
        self._http_sse: HttpSseTransport | None = None
        if not settings.disable_legacy_sse:
            self._http_sse = HttpSseTransport(
                runtime,
                session_manager=managers,
                path=settings.sse_path,
                message_path=settings.message_path,
                principal=principal,
                policy=policy,
                options=options,
            )

    @property
    def extra_apps(self) -> dict[str, ASGIApp]:
        """The applications served beside the endpoint, by path."""
        return {} if self._http_sse is None else dict.fromkeys(self._http_sse.paths, self._http_sse.answer)

    def _connect(self, server: Any) -> None:
        from tmcp_serverless.modern.own_bus import connect  # it imports mcp

        connect(server, self.bus)

    async def drain(self) -> None:
        """End the open streams of all of them."""
        self.modern.drain()
        await self.handshake.drain()
        if self._http_sse is not None:
            await self._http_sse.drain()
