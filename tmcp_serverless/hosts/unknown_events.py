"""Lambda events that are HTTP requests, or look like them, from front doors that are not served."""

from __future__ import annotations

from typing import Any, cast

from tmcp_serverless.errors import TmcpError

__all__ = ["UnknownRequestError", "unknown_front_door"]

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
