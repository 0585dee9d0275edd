"""The least that drives an ASGI application in process: the same for every application under test."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping

__all__ = ["PROTOCOL_VERSION", "App", "Client", "EventStream", "lifespan"]

Message: TypeAlias = "MutableMapping[str, Any]"
App: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"

PROTOCOL_VERSION = "2025-11-25"

_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]


@asynccontextmanager
async def lifespan(app: App) -> AsyncGenerator[None]:
    """Enter the application's lifespan, and leave it."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    answer = await asyncio.wait_for(outbox.get(), 30)
    if answer["type"] != "lifespan.startup.complete":
        raise RuntimeError(f"the application did not start: {answer}")
    try:
        yield
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(running, 30)


class Client:
    """One MCP session with an application."""

    def __init__(self, app: App, path: str = "/mcp") -> None:
        self._app = app
        self._path = path
        self._headers = list(_HEADERS)
        self._number = 0
        self.session_id = ""

    async def initialize(self) -> None:
        """Do the handshake."""
        params = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {"elicitation": {}, "sampling": {}},
            "clientInfo": {"name": "benchmarks", "version": "1"},
        }
        start, _ = await self.post(_encode("initialize", params, id=0))
        headers = dict(start["headers"])
        self.resume(headers[b"mcp-session-id"].decode())
        start, _ = await self.post(_encode("notifications/initialized", {}))
        assert start["status"] == 202, start

    def resume(self, session_id: str) -> None:
        """Go on with a session that exists."""
        self.session_id = session_id
        self._headers = [
            *_HEADERS,
            (b"mcp-session-id", session_id.encode()),
            (b"mcp-protocol-version", PROTOCOL_VERSION.encode()),
        ]

    async def add(self) -> None:
        """Call the tool `add`, and check its answer."""
        self._number += 1
        body = (
            b'{"jsonrpc":"2.0","id":%d,"method":"tools/call",'
            b'"params":{"name":"add","arguments":{"a":40,"b":2}}}' % self._number
        )
        start, answer = await self.post(body)
        assert start["status"] == 200, (start, answer)
        assert b'"42"' in answer, answer

    async def post(self, body: bytes) -> tuple[Message, bytes]:
        """Return the response's start and its whole body."""
        start: Message = {}
        chunks: list[bytes] = []
        unread = True

        async def receive() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            # A client that stays: the application learns nothing more from it.
            return await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))

        await self._app(self._scope("POST"), receive, send)
        return start, b"".join(chunks)

    async def listen(self) -> EventStream:
        """Open the session's standalone stream."""
        stream = EventStream(self._app, self._scope("GET"))
        await stream.opened()
        return stream

    def _scope(self, method: str) -> Message:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(self._headers),
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }


class EventStream:
    """One SSE response that is being read."""

    def __init__(self, app: App, scope: Message) -> None:
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self._unread = True
        self._awaited: tuple[bytes, asyncio.Future[float]] | None = None
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def opened(self) -> None:
        """Return when the response has begun."""
        await asyncio.wait({self._status, self._task}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if not self._status.done() or self._status.result() != 200:
            raise RuntimeError(f"the stream did not open: {self._status}, {self._task}")

    def awaiting(self, needle: bytes) -> asyncio.Future[float]:
        """Return when, by `time.perf_counter`, bytes that contain the needle arrive."""
        arrival: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._awaited = (needle, arrival)
        return arrival

    async def aclose(self) -> None:
        """Go away, as a client does."""
        self._gone.set()
        await asyncio.wait({self._task}, timeout=10)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _receive(self) -> Message:
        if self._unread:
            self._unread = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status.set_result(message["status"])
        elif self._awaited is not None and self._awaited[0] in message.get("body", b""):
            arrival, self._awaited = self._awaited[1], None
            arrival.set_result(time.perf_counter())


def _encode(method: str, params: object, *, id: int | None = None) -> bytes:
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        message["id"] = id
    return json.dumps(message).encode()
