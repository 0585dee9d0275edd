"""What kind of server somebody has made, told without the SDK: what does without it shall not import it."""

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
"""The classes that servers are of: by the package, whose modules may change places, and the name."""


def server_kind(server: Any) -> ServerKind:
    """Return whether this is an `MCPServer`, a `FastMCP`, or a lowlevel `Server`; of a subclass, of which.

    Raises:
        ConfigurationError: It is none of these.

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
