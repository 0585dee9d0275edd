"""The protocol revisions, by era. Kept here so that a request that needs no SDK imports none."""

from __future__ import annotations

from typing import Literal

__all__ = ["BATCH_VERSION", "HANDSHAKE_VERSIONS", "RESUMABLE_VERSION", "era_of"]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""The revisions that are reached through `initialize`, oldest first."""

BATCH_VERSION = "2025-03-26"
"""The one revision that has JSON-RPC batches (basic/transports, 2025-03-26)."""

RESUMABLE_VERSION = "2025-11-25"
"""The first revision whose requests' streams carry event ids: clients of older ones break on empty data."""


def era_of(version: str | None) -> Literal["handshake", "modern"]:
    """Return whose request it is, by its `MCP-Protocol-Version`: what names none comes from before that."""
    return "handshake" if version is None or version in HANDSHAKE_VERSIONS else "modern"
