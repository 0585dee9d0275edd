"""Lambda events that are HTTP requests: which front door sent one, and what it is in ASGI's words.

Only Function URLs and REST APIs pass an answer on as it comes; for the others this module just says which
events are theirs. (docs.aws.amazon.com: Lambda, "Invoking Lambda function URLs"; API Gateway, "Input format
of a Lambda function for proxy integration" and "Response transfer mode")
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.transports.asgi import Headers, Scope

__all__ = ["FrontDoor", "FunctionUrl", "HttpApi", "LoadBalancer", "RestApi", "front_door_of"]


class FrontDoor:
    """One HTTP request, as a front door hands it to the function."""

    streams: ClassVar[bool] = False
    """Whether the client sees the answer as it is written."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return whether the event is one of this front door's."""
        raise NotImplementedError

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        raise NotImplementedError

    @property
    def body(self) -> bytes:
        """The body of the request."""
        body = self.event.get("body") or ""
        return base64.b64decode(body) if self.event.get("isBase64Encoded") else body.encode()


class FunctionUrl(FrontDoor):
    """A Function URL: payload format 2.0, from a host of its own."""

    streams = True

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return whether it is payload 2.0, and its host that of a Function URL; HTTP APIs send that, too."""
        context = event["requestContext"]
        return "http" in context and ".lambda-url." in context.get("domainName", ".lambda-url.")

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        request = self.event["requestContext"]["http"]
        headers = [(name.lower(), value) for name, value in self.event.get("headers", {}).items()]
        if cookies := self.event.get("cookies"):
            headers = [each for each in headers if each[0] != "cookie"]
            headers.append(("cookie", "; ".join(cookies)))
        return _scope(
            method=request["method"],
            path=self.event.get("rawPath") or request["path"],
            query=self.event.get("rawQueryString") or "",
            headers=headers,
            client=request.get("sourceIp"),
        )


class RestApi(FrontDoor):
    """API Gateway, REST: payload format 1.0, which has no version."""

    streams = True

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return whether it has a resource and a method, and no version, as an HTTP API's 1.0 would have."""
        return "resource" in event and "httpMethod" in event and "version" not in event

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request; stage and base path are its `root_path`."""
        root, path = self._paths()
        query = self.event.get("multiValueQueryStringParameters") or self.event.get("queryStringParameters")
        return _scope(
            method=self.event["httpMethod"],
            path=root + path,
            root_path=root,
            query=urlencode(query or {}, doseq=True),
            headers=self._headers(),
            client=self.event["requestContext"].get("identity", {}).get("sourceIp"),
        )

    def _paths(self) -> tuple[str, str]:
        """Return what the API is reached under, and the path inside the API.

        `path` is without the stage, but with the base path of a custom domain. `resource` has neither.
        """
        path = self.event.get("path") or "/"
        whole = self.event["requestContext"].get("path") or path
        inside = self.event["resource"]
        for name, value in (self.event.get("pathParameters") or {}).items():
            inside = inside.replace(f"{{{name}+}}", value).replace(f"{{{name}}}", value)
        for candidate in (inside, path):
            if whole.endswith(candidate):
                return whole.removesuffix(candidate), candidate
        return "", path

    def _headers(self) -> Iterable[tuple[str, str]]:
        several = self.event.get("multiValueHeaders")
        if several:
            return [(name.lower(), value) for name, values in several.items() for value in values]
        return [(name.lower(), value) for name, value in (self.event.get("headers") or {}).items()]


class HttpApi(FrontDoor):
    """API Gateway, HTTP: payload format 2.0 or 1.0. It never streams."""

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return whether it is one of the two formats; asked after `FunctionUrl`."""
        return "http" in event["requestContext"] or ("httpMethod" in event and "version" in event)


class LoadBalancer(FrontDoor):
    """An Application Load Balancer. It never streams."""

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return whether it comes from a target group."""
        return "elb" in event["requestContext"]


_FRONT_DOORS = (FunctionUrl, LoadBalancer, RestApi, HttpApi)


def front_door_of(event: Any) -> FrontDoor | None:
    """Return the HTTP request that an event is; `None` where it is none."""
    if isinstance(event, dict) and isinstance(event.get("requestContext"), dict):
        for front_door in _FRONT_DOORS:
            if front_door.infer(event):
                return front_door(event)
    return None


def _scope(
    *,
    method: str,
    path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    client: str | None,
    root_path: str = "",
) -> Scope:
    encoded: Headers = [(name.encode(), value.encode()) for name, value in headers]
    known = dict(headers)
    scheme = known.get("x-forwarded-proto", "https")
    host = urlsplit(f"//{known.get('host', '')}")
    port = known.get("x-forwarded-port", "443" if scheme == "https" else "80")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": encoded,
        "client": (client, 0) if client else None,
        "server": (host.hostname or "", host.port or int(port)),
    }
