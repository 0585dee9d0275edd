"""AWS Lambda, answers delivered whole: Mangum over the ASGI application.

Mangum collects the body, so nothing streams; and it would enter and leave the ASGI lifespan at every
invocation, so it is told not to: the application enters the server's lifespan itself, once per sandbox.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mangum import Mangum
from mangum.protocols import HTTPCycle

from tmcp_serverless.hosts.lambda_events import front_door_of
from tmcp_serverless.transports.host import HOST_EXTENSION, Host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mangum.types import LambdaHandler

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["answer_whole", "buffered"]

logger = logging.getLogger(__name__)

_UNREADABLE = {"statusCode": 400, "headers": {"content-type": "text/plain"}, "body": "Bad Request"}


def buffered(app: ASGIApp, handle_event: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
    """Return a Lambda handler for Function URL, API Gateway REST and HTTP API, and ALB events.

    Any other event goes to `handle_event`.
    """
    mangum = _mangum(app)

    def handler(event: Any, context: Any) -> Any:
        if front_door_of(event) is not None:
            request = _Request.read(mangum, event, context)
            return dict(_UNREADABLE) if request is None else request.answer(request.cycle(mangum.app))
        return asyncio.get_event_loop().run_until_complete(_await(handle_event(event, context)))

    return handler


async def answer_whole(app: ASGIApp, event: Any, context: Any) -> dict[str, Any]:
    """Answer an HTTP event from inside a running event loop, which Mangum itself does not."""
    mangum = _mangum(app)
    request = _Request.read(mangum, event, context)
    if request is None:
        return dict(_UNREADABLE)
    cycle = request.cycle
    await cycle.run(mangum.app)
    return request.answer({"status": cycle.status, "headers": cycle.headers, "body": cycle.body})


def _mangum(app: ASGIApp) -> Mangum:
    async def on_host(scope: Scope, receive: Receive, send: Send) -> None:
        context = scope.get("aws.context")
        deadline = None
        if context is not None:
            deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000
        extensions = {
            **(scope.get("extensions") or {}),
            HOST_EXTENSION: Host(streams=False, deadline=deadline),
        }
        await app({**scope, "extensions": extensions}, receive, send)

    return Mangum(on_host, lifespan="off")  # type: ignore[arg-type]


class _Request(NamedTuple):
    """What Mangum makes of an event."""

    answer: LambdaHandler
    """Called with what the cycle comes to, it returns the answer in the words of the event's front door."""

    cycle: HTTPCycle

    @classmethod
    def read(cls, mangum: Mangum, event: dict[str, Any], context: Any) -> Self | None:
        """Return the request that an event is; `None` where it cannot be read."""
        try:
            request = mangum.infer(_readable(event), context)
            return cls(request, HTTPCycle(request.scope, request.body))
        except (ValueError, LookupError, TypeError, AttributeError):
            logger.warning("a request cannot be read", exc_info=True)
            return None


def _readable(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event with what Mangum expects where there is `null`, and no port that is no number."""
    readable = {**event, "headers": _readable_headers(event.get("headers") or {})}
    readable.pop("multiValueHeaders", None)
    if event.get("multiValueHeaders"):
        readable["multiValueHeaders"] = _readable_headers(event["multiValueHeaders"])
    if event["requestContext"].get("identity", {}) is None:
        readable["requestContext"] = {**event["requestContext"], "identity": {}}
    return readable


def _readable_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if _is_readable(name.lower(), value)}


def _is_readable(name: str, value: str | list[str] | None) -> bool:
    if value is None:
        return False
    text = value if isinstance(value, str) else ", ".join(value)
    if name == "host":
        _, colon, port = text.partition(":")
        return not colon or port.isdecimal()
    return name != "x-forwarded-port" or text.isdecimal()


async def _await(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except asyncio.CancelledError as error:
        # Nobody cancels us. It is no `Exception`, and would end AWS's runtime, and the sandbox with it.
        raise RuntimeError("a task that the function awaited was cancelled") from error
