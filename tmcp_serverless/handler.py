"""`create_handler`: from somebody's MCP server to something that Lambda and Cloud Run can run."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tmcp_serverless.app import App
from tmcp_serverless.config import Settings
from tmcp_serverless.managers import open_managers
from tmcp_serverless.notifier import Notifier
from tmcp_serverless.transports.http import HttpTransport
from tmcp_serverless.transports.options import HttpOptions
from tmcp_serverless.transports.runtime import ServerRuntime
from tmcp_serverless.transports.security import OriginPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.transports.asgi import ASGIApp, Scope

__all__ = ["Handler", "create_handler"]


class Handler:
    """An MCP server that any instance can serve.

    Called with `(event, context)` it is a Lambda handler that answers whole (Function URL, API Gateway REST
    and HTTP API, ALB; needs the extra `aws`). `app` is the ASGI application for containers.
    """

    def __init__(
        self,
        *,
        app: ASGIApp,
        managers: SessionManagers,
        runtime: ServerRuntime,
        transport: HttpTransport,
    ) -> None:
        self.app = app
        """The ASGI application: both protocol eras on one URL."""

        self.managers = managers
        """Where sessions and their streams are."""

        self.notifier = Notifier(managers)
        """Tells clients that something changed."""

        self._runtime = runtime
        self._transport = transport
        self._lambda: Callable[[Any, Any], Any] | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        """Serve one Lambda invocation."""
        if self._lambda is None:
            from tmcp_serverless.hosts.lambda_buffered import buffered  # noqa: PLC0415 - only on Lambda

            self._lambda = buffered(self.app)
        return self._lambda(event, context)

    async def drain(self) -> None:
        """End the open streams, so that clients go on at another instance. For the time before a stop."""
        await self._transport.drain()

    async def aclose(self) -> None:
        """Leave the server's lifespan, end the streams, and close the connections."""
        try:
            await self._runtime.aclose()
        finally:
            await self.managers.aclose()


def create_handler(
    server: Any,
    *,
    session_manager: SessionManagers | None = None,
    settings: Settings | None = None,
    principal: Callable[[Scope], str] | None = None,
    **overrides: Any,
) -> Handler:
    """Return a handler that serves the server on functions and containers.

    Args:
        server: An `MCPServer`, a lowlevel `Server` (mcp 2.x), or a `FastMCP` (4.x).
        session_manager: Where sessions are; by default Postgres at `TMCP_DATABASE_URL`, or, without one, the
            memory of this process.
        settings: The settings; by default they are read from `TMCP_*` environment variables.
        principal: Returns who is asking, from the ASGI scope, as text; by default the SDK's authenticated
            user. A session is found by its principal only.
        **overrides: Single settings, such as `database_url=` or `disable_sse=`, over those of `settings`.

    Raises:
        ConfigurationError: A setting is wrong.

    """
    given = settings.model_dump(exclude_unset=True) if settings is not None else {}
    settings = Settings.load(**given | overrides)
    managers = session_manager or open_managers(settings)
    runtime = ServerRuntime(server, answer_session_methods=settings.answer_session_methods)
    policy = OriginPolicy(allowed_hosts=settings.allowed_hosts, allowed_origins=settings.allowed_origins)
    transport = HttpTransport(
        runtime,
        session_manager=managers,
        path=settings.path,
        policy=policy,
        **{option.name: getattr(settings, option.name) for option in fields(HttpOptions)},
        principal=principal,
    )
    app = App(runtime, handshake=transport, drain=transport.drain, path=settings.path, policy=policy)
    return Handler(app=app, managers=managers, runtime=runtime, transport=transport)
