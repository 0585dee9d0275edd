"""Lambda events that are HTTP requests: the front door of an event, and its ASGI scope.

Only Function URLs and REST APIs pass an answer on as it comes; for the others this module only finds the
events that are theirs. (docs.aws.amazon.com: Lambda, "Invoking Lambda function URLs"; API Gateway, "Input
format of a Lambda function for proxy integration" and "Response transfer mode"; VPC Lattice, "Lambda
functions as targets")
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.http import Scope

__all__ = ["FrontDoor", "FunctionUrl", "HttpApi", "LoadBalancer", "RestApi", "VpcLattice", "front_door_of"]


class FrontDoor:
    """One HTTP request, as a front door hands it to the function."""

    streams: ClassVar[bool] = False
    """True if the client sees the answer as it is written."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if the event is one of this front door's."""
        raise NotImplementedError

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        raise NotImplementedError

    @property
    def place(self) -> dict[str, Any]:
        """Address of the request as parts of an ASGI scope: `path`, `raw_path` and `root_path`."""
        root, path = self._paths()
        raw_path = _encoded(root + path)
        root_path = unquote(_encoded(root).decode())
        return {"path": unquote(raw_path.decode()), "raw_path": raw_path, "root_path": root_path}

    def _paths(self) -> tuple[str, str]:
        """Return the path to the application, and the path inside of it; both as they were sent."""
        return "", self.event.get("path") or "/"

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return _body(self.event, encoded=bool(self.event.get("isBase64Encoded")))


class FunctionUrl(FrontDoor):
    """A Function URL: payload format 2.0, from a host of its own."""

    streams = True

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if it is payload 2.0 with a Function URL's host. HTTP APIs send payload 2.0, too."""
        context = event["requestContext"]
        return "http" in context and ".lambda-url." in (context.get("domainName") or ".lambda-url.")

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request."""
        request = self.event["requestContext"]["http"]
        headers = _single(self.event.get("headers"))
        if cookies := self.event.get("cookies"):
            headers = [each for each in headers if each[0] != "cookie"]
            headers.append(("cookie", "; ".join(cookies)))
        return _scope(
            self.place,
            method=request["method"],
            query=self.event.get("rawQueryString") or "",
            headers=headers,
            client=request.get("sourceIp"),
        )

    def _paths(self) -> tuple[str, str]:
        return "", self.event.get("rawPath") or self.event["requestContext"]["http"]["path"]


class RestApi(FrontDoor):
    """API Gateway, REST: payload format 1.0, without a version."""

    streams = True

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if it has a resource and a method, and no version: an HTTP API's 1.0 has one."""
        return "resource" in event and "httpMethod" in event and "version" not in event

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request. Stage and base path are its `root_path`."""
        query = self.event.get("multiValueQueryStringParameters") or self.event.get("queryStringParameters")
        return _scope(
            self.place,
            method=self.event["httpMethod"],
            query=urlencode(query or {}, doseq=True, errors="replace"),
            headers=self._headers(),
            client=(self.event["requestContext"].get("identity") or {}).get("sourceIp"),
        )

    def _paths(self) -> tuple[str, str]:
        """Return the path that leads to the API, and the path inside the API.

        `path` is without the stage, but with the base path of a custom domain. `resource` has neither.
        """
        path = self.event.get("path") or "/"
        whole = self.event["requestContext"].get("path") or path
        for candidate in (_filled_in(self.event["resource"], self.event), path):
            if whole.endswith(candidate):
                return whole.removesuffix(candidate), candidate
        return "", path

    def _headers(self) -> list[tuple[str, str]]:
        several = self.event.get("multiValueHeaders")
        if several:
            return [(name.lower(), value) for name, values in several.items() for value in values or ()]
        return _single(self.event.get("headers"))


class HttpApi(FrontDoor):
    """API Gateway, HTTP: payload format 2.0 or 1.0. It never streams."""

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if it is one of the two formats. `FunctionUrl` is tried first."""
        return "http" in event["requestContext"] or ("httpMethod" in event and "version" in event)

    def _paths(self) -> tuple[str, str]:
        """Return the stage, or with format 1.0 a domain's base path, and the path inside of the API.

        Format 2.0 does not contain a base path.
        """
        context = self.event["requestContext"]
        whole = self.event.get("rawPath") or context.get("path") or self.event.get("path") or "/"
        route = self.event.get("resource") or (self.event.get("routeKey") or "").partition(" ")[2]
        inside = _filled_in(route, self.event)
        if inside.startswith("/") and whole.endswith(inside):
            return whole.removesuffix(inside), inside
        stage = f"/{context.get('stage')}"
        if f"{whole}/".startswith(f"{stage}/"):
            return stage, whole.removeprefix(stage)
        return "", whole


class LoadBalancer(FrontDoor):
    """An Application Load Balancer. It never streams."""

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if it comes from a target group."""
        return "elb" in event["requestContext"]


class VpcLattice(FrontDoor):
    """A service of VPC Lattice: event structure 1, without a context, or 2. It never streams."""

    @staticmethod
    def infer(event: dict[str, Any]) -> bool:
        """Return `True` if it has a service network, or the names of event structure 1."""
        context = event.get("requestContext")
        if isinstance(context, dict):
            return "method" in event and ("serviceNetworkArn" in context or "serviceArn" in context)
        return "raw_path" in event and "method" in event

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the request. Clients are known by `x-forwarded-for` alone."""
        headers = _several(self.event.get("headers"))
        query = self.event.get("queryStringParameters") or self.event.get("query_string_parameters")
        sent = self._whole_path().partition("?")[2]
        return _scope(
            self.place,
            method=self.event["method"],
            query=urlencode(query, doseq=True, errors="replace") if query else sent,
            headers=headers,
            client=dict(headers).get("x-forwarded-for", "").partition(",")[0].strip(),
        )

    @property
    def body(self) -> bytes:
        """The body of the request."""
        flag = self.event.get("isBase64Encoded", self.event.get("is_base64_encoded"))
        return _body(self.event, encoded=flag is True or str(flag).lower() == "true")

    def _whole_path(self) -> str:
        return self.event.get("raw_path") or self.event.get("path") or "/"

    def _paths(self) -> tuple[str, str]:
        return "", self._whole_path().partition("?")[0] or "/"


_FRONT_DOORS = (FunctionUrl, LoadBalancer, RestApi, HttpApi)
_AUTHORIZERS = {"methodArn", "routeArn"}
"""Keys of the events that API Gateway sends to have requests authorized; they look like requests."""


def front_door_of(event: Any) -> FrontDoor | None:
    """Return the HTTP request that an event is; `None` if it is none."""
    if not isinstance(event, dict) or not _AUTHORIZERS.isdisjoint(event):
        return None
    if VpcLattice.infer(event):
        return VpcLattice(event)
    if isinstance(event.get("requestContext"), dict):
        for front_door in _FRONT_DOORS:
            if front_door.infer(event):
                return front_door(event)
    return None


def _filled_in(route: str, event: dict[str, Any]) -> str:
    """Return the path that matched a route such as `/{proxy+}`."""
    for name, value in (event.get("pathParameters") or {}).items():
        route = route.replace(f"{{{name}+}}", value or "").replace(f"{{{name}}}", value or "")
    return route


def _body(event: dict[str, Any], *, encoded: bool) -> bytes:
    body = event.get("body") or ""
    # Half of a surrogate pair is no text: the code that reads this as UTF-8 finds that out.
    return base64.b64decode(body) if encoded else body.encode(errors="surrogatepass")


def _several(headers: Mapping[str, str | list[str] | None] | None) -> list[tuple[str, str]]:
    listed = {name: [value] if isinstance(value, str) else value for name, value in (headers or {}).items()}
    return [(name.lower(), value) for name, values in listed.items() for value in values or ()]


def _single(headers: Mapping[str, str | None] | None) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in (headers or {}).items() if value is not None]


def _scope(
    place: dict[str, Any],
    *,
    method: str,
    query: str,
    headers: list[tuple[str, str]],
    client: str | None,
) -> Scope:
    known = dict(headers)
    scheme = known.get("x-forwarded-proto", "https")
    return {
        **place,
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "query_string": _encoded(query),
        "headers": [(_encoded(name), _encoded(value)) for name, value in headers],
        "client": (client, 0) if client else None,
        "server": _server(known, 443 if scheme == "https" else 80),
    }


def _encoded(text: str) -> bytes:
    """Encode text that came as JSON. JSON allows half of a surrogate pair: that becomes a `?`."""
    return text.encode(errors="replace")


def _server(headers: Mapping[str, str], port: int) -> tuple[str, int]:
    """Return the requested host and port, as far as they can be read: clients may send anything."""
    forwarded = headers.get("x-forwarded-port", "")
    if forwarded.isascii() and forwarded.isdecimal():
        port = int(forwarded)
    try:
        host = urlsplit(f"//{headers.get('host', '')}")
        name, own_port = host.hostname, host.port
    except ValueError:
        return "", port
    return name or "", own_port or port
