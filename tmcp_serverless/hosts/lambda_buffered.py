"""AWS Lambda, answers delivered whole: Mangum over the ASGI application.

Mangum collects the body, so nothing streams; and it would enter and leave the ASGI lifespan at every
invocation, so it is told not to: the application enters the server's lifespan itself, once per sandbox.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mangum import Mangum

from tmcp_serverless.transports.host import HOST_EXTENSION, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["buffered"]


def buffered(app: ASGIApp) -> Callable[[Any, Any], Any]:
    """Return a Lambda handler for Function URL, API Gateway REST and HTTP API, and ALB events."""

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
