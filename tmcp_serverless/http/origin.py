"""Policy for `Host` and `Origin`: the headers that are accepted, and the check in front of the transports.

Every request with an `Origin` is checked, with any method (basic/transports, Security Warning): a web page
must not reach a server that its user can reach. A page's own name is no proof. The owner of a name may have
it resolve to 127.0.0.1 (DNS rebinding). Then the page's `Host` and its `Origin` are both that name. With a
GET to its own origin a browser sends no `Origin` at all (fetch.spec.whatwg.org, "append a request `Origin`
header"), so there the `Host` alone has to do.
"""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from tmcp_serverless.http.asgi import HttpProblem, path_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from tmcp_serverless.http.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["Entrance", "OriginPolicy"]

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/?#@,]+))(?::\d*)?")
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST.pattern}")

_WITHOUT_ORIGIN = frozenset({"GET", "HEAD"})
"""Methods that a page may use on its own origin without an `Origin` header."""

_REBOUND = (
    "a page may have reached this server at a loopback address under another name; "
    "where a proxy forwards that name, TMCP_ALLOWED_HOSTS has to list it"
)


class OriginPolicy:
    """Policy that accepts or refuses a request by its `Host` and `Origin`.

    Args:
        allowed_hosts: Values of `Host`; `name:*` stands for any port. Empty: any host.
        allowed_origins: Values of `Origin`; `scheme://name:*` stands for any port, `*` for any origin. Empty:
            the origin with the request's own host, and loopback origins to loopback hosts. If there are no
            allowed hosts either, a page with a connection that ends at a loopback address has to name the
            host by an address or as `localhost`. So has every GET and HEAD, for those may be a page's.

    Both are compared without regard to case.

    """

    def __init__(self, *, allowed_hosts: tuple[str, ...] = (), allowed_origins: tuple[str, ...] = ()) -> None:
        self._hosts = tuple(host.lower() for host in allowed_hosts)
        self._origins = tuple(origin.lower() for origin in allowed_origins)

    def check_scope(self, scope: Scope) -> str | None:
        """Accept the request, and return its `Origin`.

        Raises:
            HttpProblem: 421 for a host and 403 for an origin that is not accepted.

        """
        host = origin = None
        for name, value in scope["headers"]:
            # A repeated header is taken together, so that it is no host's name, and no origin.
            if name == b"host":
                host = value if host is None else host + b", " + value
            elif name == b"origin":
                origin = value if origin is None else origin + b", " + value
        page = None if origin is None else origin.decode("latin-1")
        server = (scope.get("server") or ("",))[0]
        method = scope.get("method", "")
        self.check(host=(host or b"").decode("latin-1"), origin=page, server=server, method=method)
        return page

    def check(self, *, host: str, origin: str | None, server: str = "", method: str = "") -> None:
        """Accept a request with these headers, on a connection that ends at the address `server`.

        Raises:
            HttpProblem: 421 for a host and 403 for an origin that is not accepted.

        """
        if self._hosts and not _matches(host.lower(), self._hosts):
            raise HttpProblem(421, "Invalid Host header")
        if origin and not self._origin_allowed(host, origin.lower()):
            raise HttpProblem(403, "Invalid Origin header")
        if self._hosts or self._origins or not (origin or method in _WITHOUT_ORIGIN):
            return  # Most requests: what they would be compared with takes longer than the rest of this.
        name = _name(host)
        if not _is_loopback(server) or _cannot_be_rebound(name):
            return
        if origin:
            raise HttpProblem(403, f"Invalid Origin header: {_REBOUND}")
        # No browser leaves the host out, or sends one that is none.
        if name is not None:
            raise HttpProblem(403, f"Invalid Host header: {_REBOUND}")

    def _origin_allowed(self, host: str, origin: str) -> bool:
        if self._origins:
            return "*" in self._origins or _matches(origin, self._origins)
        origin_name, host_name = _name(origin, _ORIGIN), _name(host)
        if _is_loopback(origin_name):
            return _is_loopback(host_name)
        return origin_name is not None and origin_name == host_name


class Entrance:
    """ASGI application in front of another. It refuses requests if their `Host` or `Origin` is not accepted.

    It stands in front of the MCP endpoint and HTTP+SSE, and of nothing else. A server's other routes (OAuth,
    health pages, webhooks) have rules and CORS headers of their own.

    Args:
        app: The application. It answers 404 at every path that is not one of `paths`.
        policy: The hosts and origins that are accepted.
        paths: The paths of the MCP transports, in the form of `path_of`.
        cors: Adds CORS headers to answers to pages, and answers their preflights.

    """

    def __init__(
        self, app: ASGIApp, *, policy: OriginPolicy, paths: Collection[str], cors: bool = False
    ) -> None:
        self._app = app
        self._policy = policy
        self._paths = frozenset(paths)
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        origin = None
        if path_of(scope) in self._paths:
            try:
                origin = self._policy.check_scope(scope)
            except HttpProblem as problem:
                await problem.answer(send)
                return
        await (self._app if origin is None or not self._cors else self._cross_origin)(scope, receive, send)

    @cached_property
    def _cross_origin(self) -> ASGIApp:
        from tmcp_serverless.http.cors import with_cors  # only browsers need starlette's

        return with_cors(self._app)


def _name(text: str, form: re.Pattern[str] = _HOST) -> str | None:
    """Return the name in a host or an origin, in lower case; `None` if the text is neither."""
    found = form.fullmatch(text.lower())
    return found and (found[1] or found[2])


def _address(name: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(name: str | None) -> bool:
    address = _address(name)
    return name == "localhost" if address is None else address.is_loopback


def _cannot_be_rebound(name: str | None) -> bool:
    """Return `True` if a browser asks no DNS for the name, so that it cannot be made to lead elsewhere."""
    return _address(name) is not None or name == "localhost" or (name or "").endswith(".localhost")


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    name, _, port = value.rpartition(":")
    return value in patterns or f"{value}:*" in patterns or (port.isdecimal() and f"{name}:*" in patterns)
