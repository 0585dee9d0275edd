"""`create_handler`: turns an MCP server into a handler that Lambda and Cloud Run can run."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from tmcp_serverless.app import App
from tmcp_serverless.closable import Closable
from tmcp_serverless.config import Settings, unknown_variables
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.health import Health
from tmcp_serverless.hosts.other_events import OtherEvents
from tmcp_serverless.maintenance import sweep
from tmcp_serverless.managers import managers_for
from tmcp_serverless.notifier import Notifier
from tmcp_serverless.observability import observer_for
from tmcp_serverless.sdk.server_kind import namespace_of
from tmcp_serverless.transports import Transports

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.routing import BaseRoute

    from tmcp_serverless.http import Scope
    from tmcp_serverless.overrides import SettingsOverrides
    from tmcp_serverless.sessions import SessionManagers

__all__ = ["Handler", "create_handler"]

logger = logging.getLogger(__name__)

EventFunction = TypeVar("EventFunction", bound="Callable[[Any, Any], Any]")


class Handler(Closable):
    """An MCP server that any instance can serve.

    Called with `(event, context)` it is a Lambda handler that sends whole responses (Function URL, API
    Gateway REST and HTTP API, ALB; needs the extra `aws`). Run by `tmcp_serverless.hosts.lambda_streaming`,
    it streams. `app` is the ASGI application for containers.

    An ASGI server that sends its start and stop (`lifespan`), as uvicorn does, closes it; elsewhere,
    `async with create_handler(server) as handler: ...` or `aclose` does.
    """

    def __init__(self, *, app: App, managers: SessionManagers) -> None:
        self.app = app
        """The ASGI application: both protocol eras on one URL, and HTTP+SSE beside it."""

        self.managers = managers
        """The managers of sessions and their streams."""

        self.notifier = Notifier(managers)
        """Tells clients about changes."""

        self._lambda: Callable[[Any, Any], Any] | None = None
        self._other_events = OtherEvents(app.serving)

    def __call__(self, event: Any, context: Any) -> Any:
        """Serve one Lambda invocation."""
        if self._lambda is None:
            from tmcp_serverless.hosts.lambda_buffered import buffered  # only on Lambda

            self._lambda = buffered(self.app, self.handle_event)
        return self._lambda(event, context)

    def on_event(self, function: EventFunction) -> EventFunction:
        """Register a function for Lambda events that are no HTTP requests. Use it as a decorator.

            @handler.on_event
            async def every_hour(event, context):
                await handler.notifier.tools_changed()

        It may be a coroutine function or an ordinary one, which runs in a thread. Its result becomes JSON;
        an exception becomes the invocation's error. Without a function, such events are answered with `null`.
        A request of a front door that is not served is such an event as well; `null` is no answer to that.
        """
        self._other_events.register(function)
        return function

    async def handle_event(self, event: Any, context: Any) -> Any:
        """Answer a Lambda event that is no HTTP request. For hosts. The function's exceptions are raised.

        Raises:
            UnknownRequestError: The event is an HTTP request of a front door that is not served, and the
                answer would be `null`.

        """
        return await self._other_events.answer(event, context)

    async def sweep(self, *, limit: int | None = None) -> int:
        """Remove expired rows, at most `limit` of each kind if given, and return the number removed.

        Raises:
            ConfigurationError: A setting is wrong, the tables are missing, or the role may not do it.
            StoreUnavailableError: The store cannot be reached now.

        """
        return (await sweep(self.managers, limit=limit)).removed

    async def prime(self) -> None:
        """Do beforehand the work that would delay the first request, and leave nothing open. For hosts.

        The server's lifespan is entered and left again, and its exceptions are raised. No store is touched.
        """
        from tmcp_serverless.hosts.snapstart import rehearse  # for hosts that take snapshots

        try:
            self.app.prepare()
            await rehearse(self.app.runtime)
        finally:
            await self.app.runtime.aclose()
            await self.managers.disconnect()

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None]:
        """Enter the server's lifespan, and close the handler at the end: for applications that mount `app`.

            outer = FastAPI(lifespan=handler.lifespan)
            outer.mount("/api", handler.app)

        Servers send their start and stop to the outer application alone.
        """
        del app
        async with self:
            await self.app.startup()
            yield

    def well_known_routes(self) -> list[BaseRoute]:
        """Return routes for the root of an application that mounts `app`: metadata of OAuth (RFC 9728, 3.1).

        A 401 names them there from now on. Without them, it names the same metadata under the mount.
        """
        from starlette.routing import Route  # only where an application is mounted

        return [Route(path, self.app) for path in self.app.well_known_paths()]

    async def drain(self) -> None:
        """End the open streams, so that clients go on at another instance. For the time before a stop."""
        await self.app.drain()

    async def aclose(self) -> None:
        """Leave the server's lifespan, end the streams, and close everything opened for them. Idempotent.

        Session managers that were given to `create_handler` stay open: their maker closes them. An exception
        of the lifespan on leaving is raised when the rest is closed. The handler can be used again, and then
        opens its connections again.
        """
        await self.app.aclose()


def create_handler(
    server: Any,
    *,
    session_manager: SessionManagers | None = None,
    settings: Settings | None = None,
    principal: Callable[[Scope], str] | None = None,
    **overrides: Unpack[SettingsOverrides],
) -> Handler:
    """Return a handler that serves the server on functions and containers.

    Args:
        server: An `MCPServer`, a lowlevel `Server` (mcp 2.x), or a `FastMCP` (4.x).
        session_manager: The store of sessions; by default Postgres at `TMCP_DATABASE_URL`, or, without one,
            the memory of this process. It stays the caller's: the handler does not close it.
        settings: The settings, whole: a setting left out has its default. By default they are read from
            `TMCP_*` environment variables, as `Settings.load` does.
        principal: Returns the caller's principal, from the ASGI scope, as text; by default the SDK's
            authenticated user. A session is found by its principal only, and a request state is opened for
            no other principal.
        **overrides: Single settings, such as `database_url=` or `disable_sse=`, over those of `settings`.

    Raises:
        ConfigurationError: A setting is wrong.

    """
    settings = _effective(settings, overrides)
    managers, namespace = _managers(server, settings, session_manager)
    transports = Transports(server, managers, settings, principal=principal)
    # The maker of given managers may use them elsewhere too: then only the streams opened here end.
    close_streams = managers.aclose if session_manager is None else transports.drain
    app = App(
        transports,
        closing=(close_streams, transports.bus.aclose),
        path=settings.path,
        health=Health(managers.check, health_path=settings.health_path, ready_path=settings.ready_path),
        disconnect=None if settings.keep_connections else managers.disconnect,
        observer=observer_for(settings, namespace=namespace),
    )
    if namespace is not None:
        # Not before the logger is set up.
        origin = "the server's name" if settings.namespace is None else "TMCP_NAMESPACE"
        origin = origin if session_manager is None else "the session managers'"
        logger.info("the namespace in the database is %r (%s)", namespace, origin)
    return Handler(app=app, managers=managers)


def _effective(settings: Settings | None, overrides: SettingsOverrides) -> Settings:
    """Return the given settings with the overrides on top; without any, those of the environment."""
    if settings is not None:
        return settings.but(**overrides) if overrides else settings
    for sentence in unknown_variables():
        logger.warning("%s", sentence)
    return Settings.load(**overrides)


def _managers(
    server: Any, settings: Settings, given: SessionManagers | None
) -> tuple[SessionManagers, str | None]:
    """Return the managers, and their namespace if they have one.

    Raises:
        ConfigurationError: A setting is wrong, or the given managers are in another namespace than is set.

    """
    if given is None:
        own = namespace_of(server) if settings.has_database and settings.namespace is None else None
        managers = managers_for(settings, namespace=own)
        return managers, managers.namespace
    namespace = given.namespace
    if namespace is not None and settings.namespace not in (None, namespace):
        raise ConfigurationError(
            f"namespace: the session managers are in {namespace!r}, and {settings.namespace!r} is set; "
            "make them with namespace=, or leave it to them"
        )
    if namespace is None and settings.namespace is not None:
        logger.warning("namespace=%r is of no use: the session managers have none", settings.namespace)
    if given.events is None:
        logger.info(
            "the session managers have no topic of events, so listen streams of 2026-07-28 are told of the "
            "changes of this process alone"
        )
    if given.keys is None and not settings.request_state_keys:
        logger.warning(
            "the session managers have no key store, so request states of 2026-07-28 have no key that all "
            "instances share: set TMCP_REQUEST_STATE_KEYS, or make the managers with keys="
        )
    return given, namespace
