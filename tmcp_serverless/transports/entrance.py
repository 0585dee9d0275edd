"""The entrance of the MCP endpoint and of HTTP+SSE: the check of `Host` and `Origin`, and CORS for browsers.

It is around the transports and nothing else. A server's own routes, such as its OAuth endpoints, keep the
headers and the rules that the SDK or FastMCP gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tmcp_serverless.transports.asgi import HttpProblem

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send
    from tmcp_serverless.transports.security import OriginPolicy

__all__ = ["checked"]


def checked(app: ASGIApp, *, policy: OriginPolicy) -> ASGIApp:
    """Return the application behind the policy, and with CORS headers for pages whose origin it accepts."""
    cross_origin: ASGIApp | None = None

    async def entrance(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal cross_origin
        try:
            origin = policy.check_scope(scope)
        except HttpProblem as problem:
            await problem.answer(send)
            return
        if origin is None:
            await app(scope, receive, send)
            return
        if cross_origin is None:
            from tmcp_serverless.transports.cors import with_cors  # noqa: PLC0415 - only browsers need starlette

            cross_origin = with_cors(app)
        await cross_origin(scope, receive, send)

    return entrance
