"""Warnings about tools that send requests to modern clients: the log names `@replayable`, once a tool."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mcp.server.session import ServerSession
from mcp.shared.exceptions import NoBackChannelError

from tmcp_serverless.sdk.private import take_over_session

if TYPE_CHECKING:
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

__all__ = ["Unasked"]

logger = logging.getLogger(__name__)

_FASTMCP_SAYS = "server-initiated requests is unavailable"
"""Part of a FastMCP's answer: it refuses before it has tried to ask."""


class Unasked:
    """Warns of the tools that would have to be replayable."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    async def run(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext, *, tool: str
    ) -> HandlerResult:
        """Run a tool that is not replayable."""
        if tool in self._warned:
            return await call_next(ctx)
        result = await call_next(replace(ctx, session=_Session(ctx.session, self, tool)))
        if _text_of(result).find(_FASTMCP_SAYS) >= 0:
            self.warn(tool)
        return result

    def warn(self, tool: str) -> None:
        """Log the warning, once for each tool."""
        if tool not in self._warned:
            self._warned.add(tool)
            logger.warning(
                "the tool %r asks a client of 2026-07-28, which takes no requests: mark its function with "
                "@replayable, or name it in TMCP_REPLAYABLE",
                tool,
            )


class _Session(ServerSession):
    """A request's session that notes that a question went nowhere."""

    def __init__(self, session: ServerSession, unasked: Unasked, tool: str) -> None:
        take_over_session(self, session)
        self._unasked = unasked
        self._tool = tool

    async def send_request(self, *args: Any, **options: Any) -> Any:
        """Send a request as the session does."""
        try:
            return await super().send_request(*args, **options)
        except NoBackChannelError:
            self._unasked.warn(self._tool)
            raise


def _text_of(result: Any) -> str:
    """Return the text of an error that a tool has returned; an empty text for any other result."""
    if not (result.get("isError") if isinstance(result, dict) else getattr(result, "is_error", False)):
        return ""
    content: Any = result.get("content") if isinstance(result, dict) else result.content
    first: Any = content[0] if content else {}
    return str(first.get("text", "") if isinstance(first, dict) else getattr(first, "text", ""))
