"""Lambda events that are no HTTP requests, or requests from front doors that are not served."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.exits import Contained, raising_exceptions_only

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["OtherEvents", "UnknownRequestError", "unknown_front_door"]

logger = logging.getLogger(__name__)

_METHOD_NAMES = ("httpMethod", "method", "requestMethod")
_PATH_NAMES = ("path", "rawPath", "raw_path", "uri", "url", "rawUrl")


class UnknownRequestError(TmcpError):
    """An HTTP request came from a front door that is not served, and nothing has answered it."""

    def __init__(self, front_door: str) -> None:
        super().__init__(
            f"an event is a request of {front_door}, which is not served. Requests are served that come by "
            "a Function URL, API Gateway (REST or HTTP API), an Application Load Balancer or VPC Lattice; a "
            "function that is registered with `on_event` may answer others."
        )


class OtherEvents:
    """Answers Lambda events that are no HTTP requests, with a function of the user's.

    Args:
        serving: The context to enter around the function; `None` for none.

    """

    def __init__(self, serving: AbstractAsyncContextManager[None] | None) -> None:
        self._serving = serving
        self._function: Callable[[Any, Any], Any] | None = None

    def register(self, function: Callable[[Any, Any], Any]) -> None:
        """Use this function from now on: a coroutine function, or an ordinary one, which runs in a thread."""
        self._function = function

    async def answer(self, event: Any, context: Any) -> Any:
        """Return the function's result; `None` without a function. The function's exceptions are raised.

        Raises:
            UnknownRequestError: The event is an HTTP request of a front door that is not served, and the
                result would be `None`.

        """
        answer = await self._call(event, context)
        if answer is None and (front_door := unknown_front_door(event)) is not None:
            error = UnknownRequestError(front_door)
            logger.error("%s", error)
            raise error
        return answer

    async def _call(self, event: Any, context: Any) -> Any:
        if self._function is None:
            logger.info("there is no `on_event` function for an event that is no HTTP request")
            return None
        async with self._serving or nullcontext():
            if inspect.iscoroutinefunction(self._function):
                answer = self._function(event, context)
            else:
                answer = await asyncio.to_thread(raising_exceptions_only, self._function, event, context)
            if not inspect.isawaitable(answer):
                return answer
            # Also that of an object whose `__call__` is a coroutine function.
            with Contained():
                return await answer


def unknown_front_door(event: Any) -> str | None:
    """Return the front door's name if an event is plainly an HTTP request; `None` for any other event.

    Called for events that are no request of a served front door.
    """
    if not isinstance(event, dict):
        return None
    fields = cast("dict[str, Any]", event)
    return _named(fields) or _unnamed(fields)


def _named(event: dict[str, Any]) -> str | None:
    records: Any = event.get("Records")
    first: Any = records[0] if isinstance(records, list) and records else None
    signs = {
        "CloudFront (Lambda@Edge)": "cf" in _object(first),
        "API Gateway (WebSocket API)": "connectionId" in _object(event.get("requestContext")),
        "API Gateway (Lambda authorizer)": "methodArn" in event or "routeArn" in event,
        "AppSync": "fieldName" in _object(event.get("info")) or "authorizationToken" in event,
        "S3 Object Lambda": "userRequest" in event,
        "a Bedrock agent": "actionGroup" in event and "apiPath" in event,
    }
    return next((name for name, found in signs.items() if found), None)


def _unnamed(event: dict[str, Any]) -> str | None:
    context = _object(event.get("requestContext"))
    has_method = any(isinstance(event.get(name), str) for name in _METHOD_NAMES)
    has_path = any(isinstance(event.get(name), str) for name in _PATH_NAMES)
    has_headers = isinstance(event.get("headers") or event.get("multiValueHeaders"), dict)
    if (has_method and has_path and has_headers) or "apiId" in context or "http" in context:
        return "an unknown front door"
    return None


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
