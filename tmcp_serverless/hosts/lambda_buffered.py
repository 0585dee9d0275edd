"""AWS Lambda with whole answers: Mangum over the ASGI application.

Mangum collects the body, so nothing streams. It would enter and leave the ASGI lifespan at every invocation,
so that is turned off: the application enters the server's lifespan itself, once per sandbox.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.deadline import DeadlineRunner, TimeIsOverError
from tmcp_serverless.hosts.event_loop import run_until_complete, sandbox_loop
from tmcp_serverless.hosts.lambda_events import VpcLattice, front_door_of
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform
from tmcp_serverless.logs import loggable_path

try:
    from mangum import Mangum
    from mangum.handlers import ALB
    from mangum.protocols import HTTPCycle
except ModuleNotFoundError:
    raise ConfigurationError(
        "answering Lambda events whole needs the extra `aws`: run `pip install 'tmcp-serverless[aws]'`"
    ) from None

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mangum.types import LambdaHandler

    from tmcp_serverless.http import ASGIApp, Scope

__all__ = ["answer_whole", "buffered"]

logger = logging.getLogger(__name__)

_UNREADABLE = {"statusCode": 400, "headers": {"content-type": "text/plain"}, "body": "Bad Request"}
_TEXT = [[b"content-type", b"text/plain; charset=utf-8"]]


def buffered(app: ASGIApp, handle_event: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Any]:
    """Return a Lambda handler for Function URL, API Gateway REST and HTTP API, ALB and VPC Lattice events.

    Any other event goes to `handle_event`.
    """
    runner = DeadlineRunner()

    def handler(event: Any, context: Any) -> Any:
        if front_door_of(event) is not None:
            return run_until_complete(sandbox_loop(), answer_whole(app, event, context, runner))
        return run_until_complete(sandbox_loop(), _await(handle_event(event, context)))

    return handler


async def answer_whole(app: ASGIApp, event: Any, context: Any, runner: DeadlineRunner) -> dict[str, Any]:
    """Answer an HTTP event with the application's response, or with 504 shortly before the deadline."""
    request = _Request.read(app, event, context)
    if request is None:
        return dict(_UNREADABLE)
    deadline = None
    if context is not None:
        deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000
    scope = request.scope
    scope["extensions"] = {PLATFORM_EXTENSION: Platform(streams=False, deadline=deadline)}
    cycle = HTTPCycle(scope, request.body)  # type: ignore[arg-type]
    name = f"{scope['method']} {loggable_path(scope)}"
    try:
        await runner.run(cycle.run(app), deadline=deadline, name=name)  # type: ignore[arg-type]
    except TimeIsOverError as error:
        logger.error("%s", error)  # noqa: TRY400 - where it was cancelled says nothing
        return request.answer({"status": 504, "headers": _TEXT, "body": b"Gateway Timeout"})
    return request.answer({"status": cycle.status, "headers": cycle.headers, "body": cycle.body})


class _Request(NamedTuple):
    """A request as Mangum reads it from an event."""

    answer: LambdaHandler
    """Called with the application's response, it returns the answer in the form of the event's front door."""

    scope: Scope
    body: bytes

    @classmethod
    def read(cls, app: ASGIApp, event: dict[str, Any], context: Any) -> Self | None:
        """Return the request of an event; `None` if it cannot be read."""
        try:
            front_door = front_door_of(event)
            if isinstance(front_door, VpcLattice):
                answer = _LatticeAnswer(front_door, context)
                return cls(cast("Any", answer), answer.scope, front_door.body)
            request = Mangum(app, lifespan="off").infer(_readable(event), context)  # type: ignore[arg-type]
            # Mangum knows nothing of stages, nor of base paths that it was not told of.
            place = {} if front_door is None else front_door.place
            return cls(request, {**request.scope, **place}, request.body)
        except (ValueError, LookupError, TypeError, AttributeError):
            logger.warning("a request cannot be read", exc_info=True)
            return None


class _LatticeAnswer(ALB):
    """The answer to VPC Lattice: it has the form of a load balancer's, and Mangum makes that."""

    def __init__(self, request: VpcLattice, context: Any) -> None:
        super().__init__(request.event, context, Mangum(request, lifespan="off").config)  # type: ignore[arg-type]
        self._scope = {**request.scope, "aws.event": request.event, "aws.context": context}

    @property
    def scope(self) -> Any:
        """The ASGI scope of the request."""
        return self._scope


def _readable(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event with nulls and non-numeric ports replaced, as Mangum expects."""
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
        # The kit cancels nothing here. A `CancelledError` is no `Exception`: it would end AWS's runtime, and
        # the sandbox with it.
        raise RuntimeError("a task that the function awaited was cancelled") from error
