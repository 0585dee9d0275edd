"""Conversion of an HTTP request to the event that a front door makes of it."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tmcp_serverless.http import Scope

__all__ = ["FRONT_DOORS", "function_url", "rest_api"]

_STAGE = "Prod"
_TEXT = ("text/", "application/json", "application/x-www-form-urlencoded")


def function_url(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return payload 2.0, as a Function URL sends it."""
    headers = _joined(scope)
    cookies = headers.pop("cookie", "")
    path = _path(scope)
    query = scope["query_string"].decode("latin-1")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "local",
            "domainName": "local.lambda-url.local.on.aws",
            "domainPrefix": "local",
            "http": {
                "method": scope["method"],
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": _client(scope),
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": "local",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": round(time.time() * 1000),
        },
        **_body(headers, body),
    }
    if cookies:
        event["cookies"] = [each.strip() for each in cookies.split(";")]
    if query:
        event["queryStringParameters"] = dict(parse_qsl(query, keep_blank_values=True))
    return event


def rest_api(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return payload 1.0, as sent by a REST API with one resource, `/{proxy+}`.

    The resource is reached with its stage, as on AWS, or without.
    """
    headers = _joined(scope)
    path = _path(scope)
    if path.startswith(f"/{_STAGE}/"):
        path = path.removeprefix(f"/{_STAGE}")
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": scope["method"],
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.strip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/{proxy+}",
            "httpMethod": scope["method"],
            "path": f"/{_STAGE}{path}",
            "accountId": "000000000000",
            "protocol": "HTTP/1.1",
            "stage": _STAGE,
            "domainName": "local.execute-api.local.amazonaws.com",
            "requestId": "local",
            "requestTimeEpoch": round(time.time() * 1000),
            "identity": {"sourceIp": _client(scope), "userAgent": headers.get("user-agent", "")},
            "apiId": "local",
        },
        **_body(headers, body),
    }


FRONT_DOORS: Mapping[str, Callable[[Scope, bytes], dict[str, Any]]] = {
    "function-url": function_url,
    "rest-api": rest_api,
}
"""Event makers by their names on the command line."""


def _joined(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ","
        headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
    headers["x-forwarded-for"] = _client(scope)
    headers["x-forwarded-proto"] = scope["scheme"]
    headers["x-forwarded-port"] = str((scope.get("server") or ("", 80))[1])
    return headers


def _path(scope: Scope) -> str:
    """Return the path as the client has written it: the event's reader decodes it."""
    return quote(scope["raw_path"], safe="/%:@!$&'()*+,;=")


def _client(scope: Scope) -> str:
    return (scope.get("client") or ("127.0.0.1", 0))[0]


def _body(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the body as text if its content type is text, else in base64."""
    if not body:
        return {"body": None, "isBase64Encoded": False}
    if headers.get("content-type", "").startswith(_TEXT):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
