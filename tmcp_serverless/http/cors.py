"""CORS for browsers: the headers that a page may send, and those that it may see.

The origin has been accepted already (`OriginPolicy`); a page's credentials are in its headers.
(fetch.spec.whatwg.org, "CORS protocol")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from tmcp_serverless.http.asgi import ASGIApp, Headers, Message, Receive, Scope, Send

__all__ = ["with_cors"]

_EXPOSED = ["Mcp-Session-Id", "Mcp-Protocol-Version", "Last-Event-ID", "WWW-Authenticate", "Retry-After"]
_EXPOSE = b"access-control-expose-headers"
_ASKS_PRIVATE = (b"access-control-request-private-network", b"true")
_ALLOWS_PRIVATE = (b"access-control-allow-private-network", b"true")


def with_cors(app: ASGIApp) -> ASGIApp:
    """Return the application for use by pages of other origins, with every header that MCP has."""
    answering = CORSMiddleware(
        app,  # type: ignore[arg-type]
        allow_origins=["*"],
        allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )

    async def cross_origin(scope: Scope, receive: Receive, send: Send) -> None:
        # A page of the internet asks this for a server in its user's network. Starlette would refuse it.
        private = _ASKS_PRIVATE in scope["headers"]
        if private:
            scope = {**scope, "headers": [each for each in scope["headers"] if each != _ASKS_PRIVATE]}

        async def exposing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _exposed(list(message["headers"])) + [_ALLOWS_PRIVATE] * private
            await send(message)

        await answering(scope, receive, exposing)

    return cross_origin


def _exposed(headers: Headers) -> Headers:
    """Add every `Mcp-*` header of the response to the headers that a page may see."""
    known = {name.lower().encode() for name in _EXPOSED}
    more = {name.lower() for name, _ in headers if name.lower().startswith(b"mcp-")} - known
    if not more:
        return headers
    return [
        (name, b", ".join([value, *sorted(more)]) if name.lower() == _EXPOSE else value)
        for name, value in headers
    ]
