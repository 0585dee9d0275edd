"""A server that imports nothing: what only has to pass for one."""

from __future__ import annotations

from typing import Any

__all__ = ["STAND_IN"]

STAND_IN: Any = type("Server", (), {"__module__": "mcp.server.lowlevel.server"})()
"""By its class, a lowlevel server; it can do nothing."""
