"""A raw HTTP client over ASGI: no SDK between the bytes that an application sends and what is compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

from .notebook import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
    from types import TracebackType

    Message = MutableMapping[str, Any]
    App = Callable[
        [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
    ]

__all__ = ["Exchange", "Seen", "lifespan"]

CHUNK_BYTES = 64 * 1024
"""What servers such as uvicorn hand over at once."""

Seen = dict[str, Any]
"""What a client saw of one response: its status, its JSON-RPC messages, and what else matters."""


class Exchange:
    """One HTTP request, and what the application has answered so far, whole or event by event."""

    def __init__(self, app: App, verb: str, *, headers: Mapping[str, str], body: bytes, path: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.messages: list[Any] = []
        self.ids: list[str] = []
        self.endpoint: str | None = None
        self.kinds: list[str] = []
        self.text = ""
        self.body_ended = False
        self._app = app
        self._scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": verb,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        self._chunks = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)] or [
            b""
        ]
        self.comments = 0
        self.raw = b""
        """The body, as far as it has come."""

        self._received = bytearray()
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        await self._end()

    @property
    def ended(self) -> bool:
        """Whether the application is done with the request."""
        return self._task is not None and self._task.done()

    @property
    def streams(self) -> bool:
        """Whether the response is an event stream."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of the response, or the response is over."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition() and not self.ended:
                self._changed.clear()
                await self._changed.wait()

    async def begun(self) -> Self:
        """Wait for the status line."""
        await self.until(lambda: self.status != 0)
        return self

    async def count(self, number: int) -> list[Any]:
        """Wait for so many messages, and return all that came."""
        await self.until(lambda: len(self.messages) >= number)
        return self.messages

    def leave(self) -> None:
        """Go away: the application is told that the client has disconnected."""
        self._left.set()

    async def whole(self) -> Self:
        """Wait for the end of the response."""
        await self._end()
        return self

    async def _end(self) -> None:
        if self._task is not None:
            async with asyncio.timeout(LIMIT_SECONDS):
                await self._task

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        finally:
            self._changed.set()

    async def _receive(self) -> Message:
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            self.headers = {
                name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]
            }
        else:
            self._received += message.get("body", b"")
            self.raw += message.get("body", b"")
            self.comments += message.get("body", b"").count(b": keep-alive\n")
            self.body_ended = not message.get("more_body", False)
            if self.streams:
                self._read_events()
            elif not message.get("more_body", False):
                self._read_body()
        self._changed.set()

    def _read_events(self) -> None:
        *frames, rest = bytes(self._received).replace(b"\r\n", b"\n").split(b"\n\n")
        self._received = bytearray(rest)
        for frame in frames:
            fields = [line.partition(":")[::2] for line in frame.decode().split("\n")]
            values = {name: value.removeprefix(" ") for name, value in fields}
            data = "\n".join(value.removeprefix(" ") for name, value in fields if name == "data")
            if "id" in values:
                self.ids.append(values["id"])
            self.kinds.append(values.get("event", ""))
            if values.get("event") == "endpoint":
                self.endpoint = data
            elif data:
                self.messages.append(json.loads(data))

    def _read_body(self) -> None:
        text = bytes(self._received).decode()
        try:
            body = json.loads(text)
        except ValueError:
            self.text = text
        else:
            self.messages += body if isinstance(body, list) else [body]


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncGenerator[None]:
    """Start an application and stop it, as a server does: in a task of its own."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope: Message = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}

    async def tell(kind: str) -> None:
        await to_app.put({"type": kind})
        async with asyncio.timeout(LIMIT_SECONDS):
            answer = await from_app.get()
        if answer["type"] != f"{kind}.complete":
            raise RuntimeError(f"{kind} was answered with {answer}")

    task = asyncio.ensure_future(app(scope, to_app.get, from_app.put))
    await tell("lifespan.startup")
    try:
        yield
    finally:
        await tell("lifespan.shutdown")
        await task
