"""Times that several parts of the transports have to agree on."""

from __future__ import annotations

__all__ = ["KEEP_ALIVE_SECONDS", "LAST_WRITE_SECONDS", "PATIENCE_SECONDS", "RETRY_SECONDS"]

KEEP_ALIVE_SECONDS = 15.0
"""Interval at which an open stream says something, so that no intermediary takes it for dead."""

LAST_WRITE_SECONDS = 1.0
"""Seconds that a stream that has to end waits for its client to read."""

PATIENCE_SECONDS = 30.0
"""Seconds of trying to store an event while the store is away."""

RETRY_SECONDS = 0.5
"""Seconds between two tries."""
