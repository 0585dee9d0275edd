"""Platform of a request: its support for streaming, its deadline, and the options within these bounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.http.asgi import Scope

__all__ = [
    "NO_END_SECONDS",
    "PLATFORM_EXTENSION",
    "ConnectionOptions",
    "HttpOptions",
    "Platform",
    "token_seconds",
]

NO_END_SECONDS = 100 * 365 * 86_400.0
"""Seconds that no stream outlasts, and that an event loop can still add to now."""

_FUNCTION_SECONDS = 60.0
"""Most seconds that a stream lasts on a platform with a deadline, if nothing else is configured.

A function is not told that a client has left. Its stream holds a sandbox until it ends.
"""

PLATFORM_EXTENSION = "tmcp_serverless.platform"
"""Key in the ASGI scope's `extensions` for the `Platform` with which a host describes itself."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Description of the platform that calls the kit.

    A host that is not one of the kit's puts it into the scope that it makes:

        from tmcp_serverless import PLATFORM_EXTENSION, Platform

        platform = Platform(streams=False, deadline=time.monotonic() + seconds_left)
        scope["extensions"] = {PLATFORM_EXTENSION: platform}
    """

    streams: bool = True
    """`True` if the client sees an answer as it is written. If not, answers are delivered whole."""

    deadline: float | None = None
    """Time at which the invocation is ended by force, by `time.monotonic()`; `None` if it is not."""

    @property
    def holds_a_sandbox(self) -> bool:
        """`True` if an open stream takes a whole instance for as long as it lasts."""
        return self.streams and self.deadline is not None

    def stream_seconds(self, most: float | None, *, resumable: bool) -> float:
        """Return the seconds that a stream may stay open.

        Without a deadline no stream ends that its client could not continue. Several clients do not open one
        again, and none would know of the messages that it has missed.

        Args:
            most: The limit in the settings; `None`: as long as the platform allows.
            resumable: `True` if the client was given an id to continue from.

        """
        if self.deadline is None:
            return most if most is not None and resumable else NO_END_SECONDS
        return self.seconds_left(at_most=_FUNCTION_SECONDS if most is None else most)

    def seconds_left(self, *, at_most: float, reserve_seconds: float = 2.0) -> float:
        """Return the seconds that a stream may stay open: until shortly before the deadline."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - reserve_seconds - time.monotonic()))


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of `HttpTransport` and `HttpSseTransport`, explained in `Settings`."""

    disable_sse: bool = False
    answer_session_methods: bool = True
    max_body_bytes: int = 4 * 1024 * 1024
    max_body_values: int = 10_000
    max_batch: int = 100
    max_sessions: int = 1_000
    defer_seconds: float = 5.0
    stream_max_seconds: float | None = None
    function_streams: int | None = None
    buffered_wait_seconds: float = 20.0
    replay: bool = True
    retry_milliseconds: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Options of a container's connections, explained in `Settings`."""

    max_connections: int | None = None
    max_bytes_in_flight: int = 128 * 1024 * 1024
    client_seconds: float = 30.0


def token_seconds(scope: Scope) -> float:
    """Return the seconds that the request's token is still valid. No other is shown for the request later."""
    token = getattr(scope.get("user"), "access_token", None)
    expires_at = getattr(token, "expires_at", None)
    return max(0.0, expires_at - time.time()) if isinstance(expires_at, int | float) else NO_END_SECONDS
