"""`create_handler`: from somebody's MCP server to something that Lambda and Cloud Run can run."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from tmcp_serverless.app import App
from tmcp_serverless.config import Settings
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.health import Health
from tmcp_serverless.maintenance import sweep
from tmcp_serverless.managers import managers_for
from tmcp_serverless.notifier import Notifier
from tmcp_serverless.observability import observer_for
from tmcp_serverless.sessions.bus import StreamSubscriptionBus
from tmcp_serverless.transports.http import HttpTransport
from tmcp_serverless.transports.legacy_sse import SseTransport
from tmcp_serverless.transports.modern import ModernOptions, ModernTransport
from tmcp_serverless.transports.options import HttpOptions
from tmcp_serverless.transports.runtime import ServerRuntime
from tmcp_serverless.transports.security import OriginPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["Handler", "create_handler"]

logger = logging.getLogger(__name__)

EventFunction = TypeVar("EventFunction", bound="Callable[[Any, Any], Any]")


class Handler:
    """An MCP server that any instance can serve.

    Called with `(event, context)` it is a Lambda handler that answers whole (Function URL, API Gateway REST
    and HTTP API, ALB; needs the extra `aws`); run by `tmcp_serverless.hosts.lambda_streaming`, one that
    streams. `app` is the ASGI application for containers.
    """

    def __init__(
        self,
        *,
        app: App,
        managers: SessionManagers,
        runtime: ServerRuntime,
        bus: StreamSubscriptionBus,
    ) -> None:
        self.app = app
        """The ASGI application: both protocol eras on one URL, and HTTP+SSE beside it."""

        self.managers = managers
        """Where sessions and their streams are."""

        self.notifier = Notifier(managers)
        """Tells clients that something changed."""

        self._runtime = runtime
        self._bus = bus
        self._lambda: Callable[[Any, Any], Any] | None = None
        self._on_event: Callable[[Any, Any], Any] | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        """Serve one Lambda invocation."""
        if self._lambda is None:
            from tmcp_serverless.hosts.lambda_buffered import buffered  # noqa: PLC0415 - only on Lambda

            self._lambda = buffered(self.app, self.handle_event)
        return self._lambda(event, context)

    def on_event(self, function: EventFunction) -> EventFunction:
        """Have a function answer the Lambda events that are no HTTP requests. It is a decorator.

            @handler.on_event
            async def every_hour(event, context):
                await handler.notifier.tools_changed()

        It may be a coroutine function or an ordinary one, which runs in a thread. What it returns becomes
        JSON; what it raises, the invocation's error. Without one, such events are answered with `null`.
        """
        self._on_event = function
        return function

    async def handle_event(self, event: Any, context: Any) -> Any:
        """Answer a Lambda event that is no HTTP request. For hosts."""
        if self._on_event is None:
            logger.info("answered null to an event that is no HTTP request: there is no `on_event` function")
            return None
        async with self.app.serving or nullcontext():
            if inspect.iscoroutinefunction(self._on_event):
                return await self._on_event(event, context)
            return await asyncio.to_thread(self._on_event, event, context)

    async def sweep(self, *, limit: int = 10_000) -> int:
        """Remove expired rows, at most `limit` of each kind, and return how many went."""
        return await sweep(self.managers, limit=limit)

    async def prime(self) -> None:
        """Do beforehand what the first request would have to wait for, and leave nothing open. For hosts.

        The server's lifespan is entered and left again. No store is touched.
        """
        from tmcp_serverless.priming import rehearse  # noqa: PLC0415 - for hosts that take snapshots

        try:
            await rehearse(self._runtime)
        finally:
            await self._runtime.aclose()
            await self.managers.disconnect()

    async def drain(self) -> None:
        """End the open streams, so that clients go on at another instance. For the time before a stop."""
        await self.app.drain()

    async def aclose(self) -> None:
        """Leave the server's lifespan, end the streams, and close the connections."""
        try:
            await self._runtime.aclose()
            await self._bus.aclose()
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
            user. A session is found by its principal only, and a request state opened for nobody else.
        **overrides: Single settings, such as `database_url=` or `disable_sse=`, over those of `settings`.

    Raises:
        ConfigurationError: A setting is wrong.

    """
    given = settings.model_dump(exclude_unset=True) if settings is not None else {}
    settings = Settings.load(**given | overrides)
    managers = session_manager or managers_for(settings)
    bus = StreamSubscriptionBus(managers.streams)
    runtime = ServerRuntime(server, answer_session_methods=settings.answer_session_methods, bus=bus)
    policy = OriginPolicy(allowed_hosts=settings.allowed_hosts, allowed_origins=settings.allowed_origins)
    options = _options(settings, HttpOptions)
    shared: dict[str, Any] = {
        "session_manager": managers,
        "policy": policy,
        "principal": principal,
        **options,
    }
    _check_paths(settings)
    transport = HttpTransport(runtime, path=settings.path, **shared)
    modern = ModernTransport(
        runtime,
        bus=bus,
        info=managers.info,
        http=HttpOptions(**options),
        options=ModernOptions(**_options(settings, ModernOptions)),
        principal=principal,
    )
    legacy = None
    if not settings.disable_legacy_sse:
        legacy = SseTransport(runtime, path=settings.sse_path, message_path=settings.message_path, **shared)
        _check_apart(settings.path, legacy)

    async def drain() -> None:
        modern.drain()
        await transport.drain()
        if legacy is not None:
            await legacy.drain()

    app = App(
        runtime,
        handshake=transport,
        modern=modern,
        drain=drain,
        path=settings.path,
        policy=policy,
        extra_apps={} if legacy is None else dict.fromkeys(legacy.paths, legacy),
        health=Health(managers.check, health_path=settings.health_path, ready_path=settings.ready_path),
        disconnect=None if settings.keep_connections else managers.disconnect,
        observer=observer_for(settings),
    )
    return Handler(app=app, managers=managers, runtime=runtime, bus=bus)


def _options(settings: Settings, kind: type[HttpOptions | ModernOptions]) -> dict[str, Any]:
    return {option.name: getattr(settings, option.name) for option in fields(kind)}


def _check_paths(settings: Settings) -> None:
    for name in ("path", "sse_path", "message_path"):
        path = getattr(settings, name)
        if path and not path.startswith("/"):
            raise ConfigurationError(f"{name} is {path!r}, and has to begin with a slash")


def _check_apart(path: str, legacy: SseTransport) -> None:
    if path.rstrip("/") in legacy.paths:
        raise ConfigurationError(
            f"path is {path!r}, and so is sse_path or message_path; change one, or set disable_legacy_sse"
        )
