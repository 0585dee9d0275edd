"""Detects `MCPServer`, `FastMCP` or lowlevel `Server` by class name, without importing `mcp`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from tmcp_serverless.errors import ConfigurationError

__all__ = ["ServerKind", "server_kind"]

ServerKind: TypeAlias = Literal["MCPServer", "FastMCP", "lowlevel"]

_CLASSES: dict[tuple[str, str], ServerKind] = {
    ("mcp", "MCPServer"): "MCPServer",
    ("mcp", "Server"): "lowlevel",
    ("fastmcp", "FastMCP"): "FastMCP",
}
"""The kinds of servers by the class's package and name. Modules inside a package may move."""


def server_kind(server: Any) -> ServerKind:
    """Return the kind of a server: `MCPServer`, `FastMCP` or lowlevel `Server`; a subclass has its base's.

    Raises:
        ConfigurationError: The object is none of these.

    """
    for each in type(server).__mro__:
        kind = _CLASSES.get((each.__module__.partition(".")[0], each.__qualname__))
        if kind is not None:
            return kind
    what = f"the class {_name(server)}" if isinstance(server, type) else _name(type(server))
    raise ConfigurationError(
        f"not an MCP server: {what} (expected an object of mcp.server.MCPServer, "
        "mcp.server.lowlevel.Server, both of mcp 2.x, or fastmcp.FastMCP 4.x)"
    )


def _name(of: type[Any]) -> str:
    return f"{of.__module__}.{of.__qualname__}"
