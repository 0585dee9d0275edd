"""Namespaces: servers of different names share a database, and nothing in it."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.server_kind import server_kind

__all__ = ["DEFAULT_NAMESPACE", "check_namespace", "namespace_of"]

DEFAULT_NAMESPACE = "default"
"""The namespace of a server that was given no name, and of managers that were given no namespace."""

_LONGEST = 128
_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, halves of surrogate pairs, separators of lines and paragraphs."""

_UNNAMED = frozenset({"", "mcp-server"})
"""The names of servers that were given none: of a lowlevel one, and of `MCPServer()`."""


def check_namespace(name: str) -> str:
    """Return the namespace, if it has 1 to 128 characters, not all of them spaces, and no controls.

    Raises:
        ValueError: The name is no such text.

    """
    if not name.strip() or len(name) > _LONGEST:
        raise ValueError(f"a namespace has 1 to {_LONGEST} characters, not {len(name)}: {name[:40]!r}")
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        raise ValueError(f"a namespace has no control characters: {name!r}")
    return name


def namespace_of(server: Any) -> str:
    """Return the server's name, or `default` if it was given none.

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
