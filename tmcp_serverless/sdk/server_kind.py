"""Detects `MCPServer`, `FastMCP` or lowlevel `Server` by class name, without importing `mcp`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.forms import DEFAULT_NAMESPACE, check_namespace
from tmcp_serverless.sdk import private

if TYPE_CHECKING:
    from mcp.server.lowlevel.server import Server

__all__ = ["ServerKind", "lowlevel_server", "namespace_of", "server_kind"]

ServerKind: TypeAlias = Literal["MCPServer", "FastMCP", "lowlevel"]

_CLASSES: dict[tuple[str, str], ServerKind] = {
    ("mcp", "MCPServer"): "MCPServer",
    ("mcp", "Server"): "lowlevel",
    ("fastmcp", "FastMCP"): "FastMCP",
}
"""The kinds of servers by the class's package and name. Modules inside a package may move."""

_UNNAMED = frozenset({"", "mcp-server"})
"""The names of servers that were given none: of a lowlevel one, and of `MCPServer()`."""


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


def lowlevel_server(server: Any) -> Server[Any]:
    """Return the lowlevel server inside an `MCPServer` or a `FastMCP`, or the server itself.

    Raises:
        ConfigurationError: The object is none of these.

    """
    match server_kind(server):
        case "MCPServer":
            return private.lowlevel_in_mcpserver(server)
        case "FastMCP":
            return private.lowlevel_in_fastmcp(server)
        case "lowlevel":
            return server


def namespace_of(server: Any) -> str:
    """Return the server's name, which is its namespace, or `default` if it was given none.

    `FastMCP()` makes up another name in every process, from the name of its class: that counts as none. Of
    `FastMCP.generate_name("orders")`, which adds digits to a name, the name is taken.

    Raises:
        ConfigurationError: The object is no MCP server, or its name cannot be a namespace.

    """
    kind = server_kind(server)
    name = str(getattr(server, "name", None) or "")
    if kind == "FastMCP":
        for each in type(server).__mro__:
            if made_up := re.fullmatch(rf"{each.__name__}(?:-(.+))?-[0-9a-f]{{4}}", name, re.DOTALL):
                name = made_up[1] or ""
                break
    if not name.strip() or (kind != "FastMCP" and name in _UNNAMED):
        return DEFAULT_NAMESPACE
    try:
        return check_namespace(name)
    except ValueError as error:
        raise ConfigurationError(
            f"the server's name cannot be its namespace: {error}; set TMCP_NAMESPACE"
        ) from None


def _name(of: type[Any]) -> str:
    return f"{of.__module__}.{of.__qualname__}"
