"""Counting of events in a transport that cannot be seen from outside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["OBSERVED_EXTENSION", "note"]

OBSERVED_EXTENSION = "tmcp_serverless.observed"
"""Key in the ASGI scope's `extensions` for the callback of the request's observer."""


def note(scope: Scope, what: str) -> None:
    """Count an event. Without an observer, nothing happens."""
    tell = (scope.get("extensions") or {}).get(OBSERVED_EXTENSION)
    if tell is not None:
        tell(what)
