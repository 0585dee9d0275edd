"""Refusals of modern-era requests because of errors of the session managers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mcp.server.context import ServerRequestContext

    from tmcp_serverless.http import Scope

__all__ = ["Refuse", "RefusedError", "refusing", "scope_of"]

Refuse: TypeAlias = "Callable[[Scope, TmcpError], str]"
"""A function that records the error that has ended a request, and returns the message for its client."""


class RefusedError(MCPError):
    """A request cannot be served now: a session manager has failed.

    It counts only if it leaves the server's own middleware. One that catches it may go on.
    """

    def __init__(self, reason: TmcpError) -> None:
        super().__init__(INTERNAL_ERROR, "The server cannot serve this request now")
        self.reason = reason


@contextmanager
def refusing() -> Generator[None]:
    """Turn an error of the session managers into a refusal: its own text does not go to clients.

    Raises:
        RefusedError: A manager raised a `TmcpError`.

    """
    try:
        yield
    except TmcpError as error:
        raise RefusedError(error) from error


def scope_of(ctx: ServerRequestContext[Any, Any]) -> Scope:
    """Return the ASGI scope of the request; an empty one if it came by another way."""
    return {} if ctx.request is None else ctx.request.scope
