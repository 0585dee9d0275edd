"""Check of `Host` and `Origin` in front of the MCP endpoint and HTTP+SSE, and of nothing else.

A server's other routes (OAuth, health pages, webhooks) have rules and CORS headers of their own.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from tmcp_serverless.transports.asgi import HttpProblem, path_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send
    from tmcp_serverless.transports.security import OriginPolicy

__all__ = ["Entrance"]


class Entrance:
    """ASGI application in front of another. It refuses requests if their `Host` or `Origin` is not accepted.

    Args:
        app: The application. It answers 404 at every path that is not one of `paths`.
        policy: The hosts and origins that are accepted.
        paths: The paths of the MCP transports, in the form of `path_of`.
        cors: Adds CORS headers to answers to pages, and answers their preflights.

    """

    def __init__(
        self, app: ASGIApp, *, policy: OriginPolicy, paths: Collection[str], cors: bool = False
    ) -> None:
        self._app = app
        self._policy = policy
        self._paths = frozenset(paths)
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        origin = None
        if path_of(scope) in self._paths:
            try:
                origin = self._policy.check_scope(scope)
            except HttpProblem as problem:
                await problem.answer(send)
                return
        await (self._app if origin is None or not self._cors else self._cross_origin)(scope, receive, send)

    @cached_property
    def _cross_origin(self) -> ASGIApp:
        from tmcp_serverless.transports.cors import with_cors  # noqa: PLC0415 - only browsers need starlette

        return with_cors(self._app)
