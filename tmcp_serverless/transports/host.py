"""What the host can do with an answer, and how long the invocation may live."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["HOST_EXTENSION", "NO_END_SECONDS", "Host", "host_of", "token_seconds"]

NO_END_SECONDS = 100 * 365 * 86_400.0
"""As long as any stream lasts, and not more than an event loop can add to now."""

_FUNCTION_SECONDS = 300.0
"""How long a stream lasts at the most on a host with a deadline, where nothing else is said.

A function is not told that a client has left, and its stream holds a sandbox until it ends.
"""

HOST_EXTENSION = "tmcp_serverless.host"
"""The key in the ASGI scope's `extensions` under which a host describes itself with a `Host`."""


@dataclass(frozen=True, slots=True)
class Host:
    """What calls us.

    A host that is none of the kit's says so in the scope that it makes:

        from tmcp_serverless import HOST_EXTENSION, Host

        host = Host(streams=False, deadline=time.monotonic() + seconds_left)
        scope["extensions"] = {HOST_EXTENSION: host}
    """

    streams: bool = True
    """Whether the client sees an answer as it is written. If not, answers are delivered whole."""

    deadline: float | None = None
    """When the invocation is ended by force, by `time.monotonic()`; `None` where it is not."""

    def stream_seconds(self, most: float | None, *, resumable: bool) -> float:
        """Return how long a stream may stay open.

        A host without a deadline ends none that its client could not continue: several clients do not open
        one again, and none would know what it has missed.

        Args:
            most: What the settings allow; `None`: as long as the host does.
            resumable: Whether the client was given an id to continue from.

        """
        if self.deadline is None:
            return most if most is not None and resumable else NO_END_SECONDS
        return self.seconds_left(at_most=_FUNCTION_SECONDS if most is None else most)

    def seconds_left(self, *, at_most: float, reserve_seconds: float = 2.0) -> float:
        """Return how long a stream may stay open: until shortly before the deadline."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - reserve_seconds - time.monotonic()))


def host_of(scope: Scope) -> Host:
    """Return the host that made the scope; a container where nothing says otherwise."""
    return (scope.get("extensions") or {}).get(HOST_EXTENSION) or Host()


def token_seconds(scope: Scope) -> float:
    """Return how long the token is good with which the request came; no other is shown for it later."""
    token = getattr(scope.get("user"), "access_token", None)
    expires_at = getattr(token, "expires_at", None)
    return max(0.0, expires_at - time.time()) if isinstance(expires_at, int | float) else NO_END_SECONDS
