"""A client that speaks MCP by hand: it can send anything, and keeps what it saw in a comparable form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

from .wire import Exchange, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .notebook import Notebook
    from .wire import App

__all__ = ["LATEST", "MODERN", "Client", "Peer"]

LATEST = "2025-11-25"
MODERN = "2026-07-28"
BOTH = "application/json, text/event-stream"
CLIENT_INFO = {"name": "differential", "version": "9.9", "title": "A test"}
CAPABILITIES = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}
LONG = 500
"""Texts with more characters than this are compared by their digest."""


@dataclass
class Peer:
    """One server: a single instance of the SDK's transport, or several of ours that take turns."""

    apps: Sequence[App]
    notebook: Notebook
    turns: Iterator[App] = field(init=False)

    def __post_init__(self) -> None:
        self.turns = cycle(self.apps)


class Client:
    """One client with at most one session. Every HTTP request that it makes goes to the next instance."""

    def __init__(self, peer: Peer, version: str = LATEST) -> None:
        self.peer = peer
        self.notebook = peer.notebook
        self.version = version
        self.session: str | None = None
        self._last_id = 0
        self._server_ids: dict[str, str] = {}

    def other(self) -> Client:
        """Return another client of the same server, that has no session yet."""
        return Client(self.peer, self.version)

    # What is sent

    def start(
        self,
        verb: str,
        body: Any = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        path: str = "/mcp",
    ) -> Exchange:
        """Make an HTTP request; `async with` it. A header that is `None` is left out."""
        own = {
            "host": "127.0.0.1:8000",
            "accept": "text/event-stream" if verb == "GET" else BOTH,
            "content-type": "application/json" if verb == "POST" else None,
            "mcp-session-id": self.session,
            # A client of 2025-03-26 does not know this header.
            "mcp-protocol-version": self.version if self.session and self.version > "2025-03-26" else None,
        }
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        chosen = {**own, "content-length": str(len(data)), **(headers or {})}
        sent = {name: value for name, value in chosen.items() if value is not None}
        return Exchange(next(self.peer.turns), verb, headers=sent, body=data, path=path)

    async def send(
        self,
        verb: str,
        body: Any = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        path: str = "/mcp",
    ) -> Seen:
        """Make an HTTP request and wait for all of its response."""
        async with self.start(verb, body, headers=headers, path=path) as exchange:
            return self.seen(await exchange.whole())

    def message(self, method: str, params: Any = None, *, id: Any = ...) -> dict[str, Any]:
        """Return a JSON-RPC request with the next id, or the given one."""
        if id is ...:
            self._last_id += 1
            id = self._last_id
        without = {"jsonrpc": "2.0", "id": id, "method": method}
        return without if params is None else {**without, "params": params}

    def calling(self, tool: str, **arguments: Any) -> Exchange:
        """Call a tool; `async with` it."""
        return self.start("POST", self.message("tools/call", {"name": tool, "arguments": arguments}))

    async def request(self, method: str, params: Any = None, *, id: Any = ...) -> Seen:
        """Send a JSON-RPC request and wait for its whole response."""
        return await self.send("POST", self.message(method, params, id=id))

    async def call(self, tool: str, **arguments: Any) -> Seen:
        """Call a tool and wait for its whole response."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def notify(self, method: str, params: Any = None) -> Seen:
        """Send a JSON-RPC notification."""
        without = {"jsonrpc": "2.0", "method": method}
        return await self.send("POST", without if params is None else {**without, "params": params})

    async def answer(self, request: Mapping[str, Any], **outcome: Any) -> Seen:
        """Send the `result` or the `error` of a request that the server made."""
        return await self.send("POST", {"jsonrpc": "2.0", "id": request["id"], **outcome})

    async def initialize(self, **params: Any) -> Seen:
        """Send `initialize` and take the session from the response."""
        all_params = {
            "protocolVersion": self.version,
            "capabilities": CAPABILITIES,
            "clientInfo": CLIENT_INFO,
            **params,
        }
        async with self.start("POST", self.message("initialize", all_params, id=0)) as exchange:
            await exchange.whole()
            self.session = exchange.headers.get("mcp-session-id", self.session)
            return self.seen(exchange)

    async def open(self) -> Seen:
        """Send `initialize` and `notifications/initialized`, and return what the first one brought."""
        seen = await self.initialize()
        await self.notify("notifications/initialized")
        return seen

    async def mark(self, stream: Exchange, name: str = "end") -> Seen:
        """Have the server say something on the standalone stream, and return the stream up to there."""
        await self.call("say", level="emergency", data=name)
        await stream.until(lambda: any(name == _marker(message) for message in stream.messages))
        return self.seen(stream)

    # What is seen

    def seen(self, exchange: Exchange) -> Seen:
        """Return what there is to compare: its status and its messages, but no framing."""
        seen: Seen = {
            "status": exchange.status,
            "messages": [self._normal(each) for each in exchange.messages],
        }
        if exchange.text:
            seen["text"] = exchange.text
        if "allow" in exchange.headers:
            seen["allow"] = sorted(exchange.headers["allow"].split(", "))
        return seen

    def _normal(self, message: Any) -> Any:
        if isinstance(message, dict) and "method" in message and "id" in message:
            message = {**message, "id": self._alias(message["id"])}
            params = message.get("params", {})
            if "progressToken" in params.get("_meta", {}):
                meta = {**params["_meta"], "progressToken": self._alias(params["_meta"]["progressToken"])}
                message = {**message, "params": {**params, "_meta": meta}}
        if isinstance(message, dict) and message.get("method") == "notifications/cancelled":
            params = message["params"]
            message = {**message, "params": {**params, "requestId": self._alias(params["requestId"])}}
        return self._plain(message)

    def _alias(self, id: Any) -> str:
        return self._server_ids.setdefault(json.dumps(id), f"<server's request {len(self._server_ids) + 1}>")

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._plain(each) for each in value]
        if isinstance(value, str) and self.session:
            value = value.replace(self.session, "<session>")
        if isinstance(value, str) and len(value) > LONG:
            return f"<{len(value)} characters, {hashlib.sha256(value.encode()).hexdigest()}>"
        return value


def _marker(message: Any) -> Any:
    params = message.get("params") if isinstance(message, dict) else None
    return params.get("data") if isinstance(params, dict) else None
