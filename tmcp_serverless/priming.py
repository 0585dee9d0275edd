"""A rehearsal of the first request: imports and schemas, done beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tmcp_serverless.sessions import (
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
)
from tmcp_serverless.transports.streamable_http import HttpTransport

if TYPE_CHECKING:
    from tmcp_serverless.transports.asgi import Message
    from tmcp_serverless.transports.server import ServerRuntime

__all__ = ["rehearse"]

_PATH = "/"
_REVISION = "2025-11-25"
_LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")


async def rehearse(runtime: ServerRuntime) -> None:
    """Serve a simulated client in memory: it initializes, and lists tools, resources and prompts.

    So everything is imported, and every schema is built. The server's lifespan is entered, if it is not yet.
    Its authentication is not used, no store is touched, and no tool is called.
    """
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    client = _Client(HttpTransport(runtime, session_manager=managers, path=_PATH))
    about = {
        "protocolVersion": _REVISION,
        "capabilities": {},
        "clientInfo": {"name": "nobody", "version": "0"},
    }
    await client.send("initialize", about)
    await client.send("notifications/initialized", id=None)
    for method in _LISTS:
        await client.send(method, {})
    await managers.aclose()


class _Client:
    """A client that sends its messages, and ignores the answers except for the session's id."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._session = b""

    async def send(self, method: str, params: dict[str, Any] | None = None, *, id: int | None = 1) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        body = json.dumps(message if id is None else {**message, "id": id}).encode()
        headers = [
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
        ]
        if self._session:
            headers += [(b"mcp-session-id", self._session), (b"mcp-protocol-version", _REVISION.encode())]

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "path": _PATH,
            "root_path": "",
            "query_string": b"",
            "headers": headers,
        }
        await self._transport(scope, receive, self._take)

    async def _take(self, message: Message) -> None:
        self._session = dict(message.get("headers", ())).get(b"mcp-session-id", self._session)
