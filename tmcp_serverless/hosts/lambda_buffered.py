"""AWS Lambda, answers delivered whole: Mangum over the ASGI application.

Mangum collects the body, so nothing streams; and it would enter and leave the ASGI lifespan at every
invocation, so it is told not to: the application enters the server's lifespan itself, once per sandbox.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from mangum import Mangum
from mangum.protocols import HTTPCycle

from tmcp_serverless.hosts.lambda_events import front_door_of
from tmcp_serverless.transports.host import HOST_EXTENSION, Host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["answer_whole", "buffered"]


def buffered(app: ASGIApp, handle_event: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
    """Return a Lambda handler for Function URL, API Gateway REST and HTTP API, and ALB events.

    Any other event goes to `handle_event`.
    """
    mangum = _mangum(app)

    def handler(event: Any, context: Any) -> Any:
        if front_door_of(event) is not None:
            return mangum(event, context)
        return asyncio.get_event_loop().run_until_complete(_await(handle_event(event, context)))

    return handler


async def answer_whole(app: ASGIApp, event: Any, context: Any) -> dict[str, Any]:
    """Answer an HTTP event from inside a running event loop, which Mangum itself does not."""
    mangum = _mangum(app)
    request = mangum.infer(event, context)
    cycle = HTTPCycle(request.scope, request.body)
    await cycle.run(mangum.app)
    return request({"status": cycle.status, "headers": cycle.headers, "body": cycle.body})


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


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
