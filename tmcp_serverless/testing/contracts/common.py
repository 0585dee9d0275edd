"""Parts that the suites share."""

from __future__ import annotations

import secrets

import pytest

from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["AWKWARD", "LIMIT_SECONDS", "needs", "new_id"]

LIMIT_SECONDS = 15.0

AWKWARD = [
    "it's",
    '"quoted"',
    "back\\slash",
    "line\nbreak",
    "%s $1 :name ?",
    "'; DROP TABLE tmcp_sessions; --",
    "żółć 🦆 \u2028",
    "",
    '{"jsonrpc":"2.0","method":"x","params":{"text":"\\u0000"}}',
]


def needs(manager: StreamSessionManager, *optional: str) -> None:
    """Skip the test if the manager leaves one of these optional methods at its default."""
    for name in optional:
        if getattr(type(manager), name) is getattr(StreamSessionManager, name):
            pytest.skip(f"optional: {type(manager).__name__} has no {name} of its own")


def new_id() -> str:
    return secrets.token_hex(16)
