"""Protocol revisions, by era. They are kept here so that a request that needs no SDK imports none."""

from __future__ import annotations

from typing import Literal

__all__ = ["BATCH_VERSION", "ERAS", "HANDSHAKE_VERSIONS", "MODERN", "RESUMABLE_VERSION"]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that are reached through `initialize`, oldest first."""

BATCH_VERSION = "2025-03-26"
"""Only revision that has JSON-RPC batches (basic/transports, 2025-03-26)."""

RESUMABLE_VERSION = "2025-11-25"
"""First revision with event ids on the streams of requests: clients of older ones break on empty data."""

MODERN = "modern"
"""Era of every revision that is not in `ERAS`."""

ERAS: dict[str | None, Literal["handshake"]] = dict.fromkeys((None, *HANDSHAKE_VERSIONS), "handshake")
"""Eras of requests, by their `MCP-Protocol-Version`. A request without one predates the header."""
