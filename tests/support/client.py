"""A client that speaks MCP by hand, to several instances in turns."""

from __future__ import annotations

import json
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, Self

from tests.differential.wire import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.http import ASGIApp

LATEST = "2025-11-25"


def initialize_params(**said: Any) -> dict[str, Any]:
    """Return what a client says when it initializes a session, with `said` instead of or beside it."""
    client = {"name": "by hand", "version": "1"}
    return {"protocolVersion": LATEST, "capabilities": {}, "clientInfo": client, **said}


def initialize_message(**said: Any) -> dict[str, Any]:
    """Return the request that begins a session, with `said` among its parameters."""
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize_params(**said)}


class Client:
    def __init__(self, *apps: ASGIApp, version: str = LATEST, scope: Mapping[str, Any] | None = None) -> None:
        self._turns = cycle(apps)
        self._ids = count(1)
        self._scope = dict(scope or {})
        self.version = version
        self.path = "/mcp"
        self.always: dict[str, str] = {}
        self.session: str | None = None

    def send(self, verb: str, body: Any = None, **headers: str | None) -> Exchange:
        """Make an HTTP request to the next instance; `async with` it. A header that is `None` is left out."""
        own: dict[str, str | None] = {
            "host": "127.0.0.1:8000",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json" if verb == "POST" else None,
            "mcp-session-id": self.session,
            "mcp-protocol-version": self.version if self.session else None,
        }
        own |= self.always
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {name: value for name, value in own.items() if value is not None}
        app, extra = next(self._turns), self._scope

        async def with_scope(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, **extra}, receive, send)

        return Exchange(with_scope, verb, headers=sent, body=data, path=self.path)

    async def post(self, body: Any, **headers: str | None) -> Exchange:
        """Post, and return the whole answer."""
        async with self.send("POST", body, **headers) as exchange:
            return await exchange.whole()

    async def initialize(self, *, capabilities: dict[str, Any] | None = None) -> Self:
        said = {"protocolVersion": self.version, "capabilities": capabilities or {}}
        exchange = await self.post(initialize_message(**said))
        assert exchange.status == 200, exchange.messages
        self.version = exchange.messages[0]["result"]["protocolVersion"]
        self.session = exchange.headers["mcp-session-id"]
        assert (await self.notify("notifications/initialized")).status == 202
        return self

    async def ask(self, method: str, params: dict[str, Any] | None = None, **headers: str | None) -> Exchange:
        """Send a request, and return the whole answer."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        if params is not None:
            message["params"] = params
        return await self.post(message, **headers)

    async def result(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Send a request, and return its result."""
        exchange = await self.ask(method, params)
        assert exchange.status == 200, exchange.messages
        return exchange.messages[-1]["result"]

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool, and return its text."""
        result = await self.result("tools/call", {"name": tool, "arguments": arguments})
        return result["content"][0]["text"]

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> Exchange:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        return await self.post(message)

    def listen(self, *, last_event_id: str | None = None) -> Exchange:
        """Open the standalone stream; `async with` it."""
        return self.send("GET", accept="text/event-stream", last_event_id=last_event_id)

    async def delete(self) -> Exchange:
        async with self.send("DELETE") as exchange:
            return await exchange.whole()
