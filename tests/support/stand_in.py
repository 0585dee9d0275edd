"""A server that imports no SDK: what only has to pass for one."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

__all__ = ["STAND_IN"]


def _application(_: Any, *, streamable_http_path: str) -> Starlette:
    return Starlette(routes=[Route(streamable_http_path, Starlette())])


STAND_IN: Any = type(
    "Server",
    (),
    {
        "__module__": "mcp.server.lowlevel.server",
        "_session_manager": None,
        "streamable_http_app": _application,
    },
)()
"""By its class, a lowlevel server; it can do nothing but make an application."""
