"""How a transport says what cannot be seen from outside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import Scope

__all__ = ["OBSERVED_EXTENSION", "note"]

OBSERVED_EXTENSION = "tmcp_serverless.observed"
"""The key in the ASGI scope's `extensions` under which whoever watches the request wants to be told."""


def note(scope: Scope, what: str) -> None:
    """Count something; where nobody watches, nothing happens."""
    tell = (scope.get("extensions") or {}).get(OBSERVED_EXTENSION)
    if tell is not None:
        tell(what)
