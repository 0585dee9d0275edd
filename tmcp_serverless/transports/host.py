"""What the host can do with an answer, and how long the invocation may live."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["HOST_EXTENSION", "Host", "host_of"]

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

    def seconds_left(self, *, at_most: float, reserve_seconds: float = 2.0) -> float:
        """Return how long a stream may stay open: until shortly before the deadline."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - reserve_seconds - time.monotonic()))


def host_of(scope: Scope) -> Host:
    """Return the host that made the scope; a container where nothing says otherwise."""
    return (scope.get("extensions") or {}).get(HOST_EXTENSION) or Host()
