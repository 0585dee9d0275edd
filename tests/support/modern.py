"""A client of the 2026-07-28 revision that speaks by hand, to several instances in turns."""

from __future__ import annotations

import json
import time
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

from tests.differential.wire import Exchange
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.http import ASGIApp

MODERN = "2026-07-28"
META = "io.modelcontextprotocol"
SUBSCRIPTION = f"{META}/subscriptionId"
INTERNAL_ERROR = -32603
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}


def methods(exchange: Exchange) -> list[str]:
    return [message.get("method", "result") for message in exchange.messages]


def error_of(exchange: Exchange) -> tuple[int, int]:
    return exchange.status, exchange.messages[-1]["error"]["code"]


def short_lived(seconds: float, *, streams: bool = True) -> dict[str, Any]:
    """Return the scope of an invocation that its host ends in so many seconds."""
    platform = Platform(streams=streams, deadline=time.monotonic() + seconds)
    return {"extensions": {PLATFORM_EXTENSION: platform}}


class ModernClient:
    def __init__(self, *apps: ASGIApp, scope: Mapping[str, Any] | None = None) -> None:
        self._turns = cycle(apps)
        self._ids = count(1)
        self._scope = dict(scope or {})
        self.capabilities = CAPABILITIES

    def asking(
        self, method: str, params: dict[str, Any] | None = None, *, id: Any = None, **headers: str | None
    ) -> Exchange:
        """Make a request to the next instance; `async with` it. A header that is `None` is left out."""
        meta = {
            f"{META}/protocolVersion": MODERN,
            f"{META}/clientInfo": {"name": "by hand", "version": "1"},
            f"{META}/clientCapabilities": self.capabilities,
        }
        params = {**(params or {}), "_meta": {**meta, **(params or {}).get("_meta", {})}}
        own: dict[str, str | None] = {
            "host": "127.0.0.1:8000",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": MODERN,
            "mcp-method": method,
            "mcp-name": params.get("name", params.get("uri")),
        }
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        message = {"jsonrpc": "2.0", "id": next(self._ids) if id is None else id, "method": method}
        return self._exchange("POST", own, json.dumps({**message, "params": params}).encode())

    def sending(self, verb: str, body: Any = None, **headers: str | None) -> Exchange:
        """Make any HTTP request that says it is of this revision; `async with` it."""
        own: dict[str, str | None] = {
            "host": "127.0.0.1:8000",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json" if body is not None else None,
            "mcp-protocol-version": MODERN,
        }
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self._exchange(verb, own, b"" if body is None else json.dumps(body).encode())

    def _exchange(self, verb: str, headers: Mapping[str, str | None], body: bytes) -> Exchange:
        app, extra = next(self._turns), self._scope

        async def with_scope(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, **extra}, receive, send)

        sent = {name: value for name, value in headers.items() if value is not None}
        return Exchange(with_scope, verb, headers=sent, body=body, path="/mcp")

    async def ask(
        self, method: str, params: dict[str, Any] | None = None, *, id: Any = None, **headers: str | None
    ) -> Exchange:
        """Send a request, and return the whole answer."""
        async with self.asking(method, params, id=id, **headers) as exchange:
            return await exchange.whole()

    async def result(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Send a request, and return its result."""
        exchange = await self.ask(method, params)
        assert exchange.status == 200, exchange.messages
        return exchange.messages[-1]["result"]

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool, and return its result."""
        return await self.result("tools/call", {"name": tool, "arguments": arguments})

    async def answer(
        self, asked: Mapping[str, Any], responses: Mapping[str, Any], tool: str, **arguments: Any
    ) -> Exchange:
        """Call the tool again with the answers to what it asked."""
        params = {
            "name": tool,
            "arguments": arguments,
            "inputResponses": dict(responses),
            "requestState": asked["requestState"],
        }
        return await self.ask("tools/call", params)

    def listen(self, *, id: Any = "listening", **wanted: Any) -> Exchange:
        """Open a listen stream; `async with` it."""
        return self.asking("subscriptions/listen", {"notifications": wanted}, id=id)
