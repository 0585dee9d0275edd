"""Protocol revisions, by era. They are kept here so that a request that needs no SDK imports none."""

from __future__ import annotations

from typing import Literal

__all__ = ["BATCH_VERSION", "HANDSHAKE_VERSIONS", "RESUMABLE_VERSION", "era_of"]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that are reached through `initialize`, oldest first."""

BATCH_VERSION = "2025-03-26"
"""Only revision that has JSON-RPC batches (basic/transports, 2025-03-26)."""

RESUMABLE_VERSION = "2025-11-25"
"""First revision with event ids on the streams of requests: clients of older ones break on empty data."""


def era_of(version: str | None) -> Literal["handshake", "modern"]:
    """Return the era of a request, by its `MCP-Protocol-Version`. Without one it predates the header."""
    return "handshake" if version is None or version in HANDSHAKE_VERSIONS else "modern"
