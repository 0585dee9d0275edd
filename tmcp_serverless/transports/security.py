"""Which `Host` and `Origin` headers are accepted.

Every request with an `Origin` is checked, whatever its method (basic/transports, Security Warning): a web
page must not reach a server that its user can reach.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tmcp_serverless.transports.asgi import HttpProblem

__all__ = ["OriginPolicy"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class OriginPolicy:
    """Accepts or refuses a request by its `Host` and `Origin`.

    Args:
        allowed_hosts: Values of `Host`; `name:*` stands for any port. Empty: any host.
        allowed_origins: Values of `Origin`; `scheme://name:*` stands for any port, `*` for any origin. Empty:
            the origin whose host is the request's own, and loopback origins to loopback hosts.

    """

    def __init__(self, *, allowed_hosts: tuple[str, ...] = (), allowed_origins: tuple[str, ...] = ()) -> None:
        self._hosts = allowed_hosts
        self._origins = allowed_origins

    def check(self, *, host: str, origin: str | None) -> None:
        """Let the request pass.

        Raises:
            HttpProblem: 421 for a host and 403 for an origin that is not accepted.

        """
        if self._hosts and not _matches(host, self._hosts):
            raise HttpProblem(421, "Invalid Host header")
        if origin and not self._origin_allowed(host, origin):
            raise HttpProblem(403, "Invalid Origin header")

    def _origin_allowed(self, host: str, origin: str) -> bool:
        if self._origins:
            return "*" in self._origins or _matches(origin, self._origins)
        try:
            origin_name, host_name = urlsplit(origin).hostname, urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if origin_name in _LOOPBACK:
            return host_name in _LOOPBACK
        return origin_name is not None and origin_name == host_name


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return any(
        value == pattern
        or (pattern.endswith(":*") and value.startswith(pattern[:-1]))
        or (pattern.endswith(":*") and value == pattern[:-2])
        for pattern in patterns
    )
