"""Who sits in front of the official client: answers what a server asks, and remembers what it says."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from mcp import StdioServerParameters
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

    Incoming = ReadStream[SessionMessage | Exception]
    Transport = AbstractAsyncContextManager[TransportStreams]

    Connected = AbstractAsyncContextManager[Client]

__all__ = ["LIMIT_SECONDS", "YES", "Person", "text_of"]

LIMIT_SECONDS = 90.0
YES = types.ElicitResult(action="accept", content={"sure": True, "why": "because"})
ROOTS = ["file:///home/ann", "file:///srv/orders"]


class Person:
    """Answers every question with `answer`; with `None`, it thinks for ever.

    Everything that the client hears is in `heard`, in order and as it came: what comes twice is there twice.
    `served` has what was asked while `noting`, as (JSON-RPC method, instance).
    """

    def __init__(self, answer: types.ElicitResult | None = YES) -> None:
        self.answer = answer
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[types.ElicitRequestParams] = []
        self.given_up = 0
        self.heard: list[types.JSONRPCMessage] = []
        self.news = asyncio.Event()
        self.served: list[tuple[str, str]] = []

    def at(self, url: str) -> Connected:
        """Connect to a server, within a time limit for everything that is done there."""
        return self._connected(streamable_http_client(url))

    @asynccontextmanager
    async def noting(self, url: str, *, mode: str, **options: Any) -> AsyncGenerator[Client]:
        """Connect in the given mode, within the same limit, with a note of who serves what.

        `options` are the client's.
        """
        timeout = httpx2.Timeout(LIMIT_SECONDS)
        async with (
            httpx2.AsyncClient(timeout=timeout, event_hooks={"response": [self._note]}) as http,
            self._connected(streamable_http_client(url, http_client=http), mode=mode, **options) as client,
        ):
            yield client

    def over(self, transport: Transport) -> Connected:
        """Connect over any transport, within the same limit."""
        return self._connected(transport)

    def through(self, command: StdioServerParameters) -> Connected:
        """Connect by way of a process that speaks stdio, within the same limit."""
        return self._connected(stdio_client(command))

    @asynccontextmanager
    async def _connected(
        self, transport: Transport, *, mode: str = "legacy", **options: Any
    ) -> AsyncGenerator[Client]:
        async with (
            asyncio.timeout(LIMIT_SECONDS),
            Client(
                self._tapped(transport),
                mode=mode,
                elicitation_callback=self._elicit,
                sampling_callback=self._sample,
                list_roots_callback=self._roots,
                **options,
            ) as client,
        ):
            yield client

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be heard or asked that makes the condition true."""
        while not condition():
            self.news.clear()
            await self.news.wait()

    def notifications(self, method: str) -> list[dict[str, Any]]:
        """Return the params of the notifications that came."""
        return [
            message.params or {}
            for message in self.heard
            if isinstance(message, types.JSONRPCNotification) and message.method == method
        ]

    def answers(self) -> list[types.RequestId | None]:
        """Return the ids of the requests that were answered, as often as they were."""
        return [
            message.id
            for message in self.heard
            if isinstance(message, types.JSONRPCResponse | types.JSONRPCError)
        ]

    def steps(self) -> list[int]:
        """Return the progress that was reported."""
        return [int(params["progress"]) for params in self.notifications("notifications/progress")]

    def instances(self, method: str) -> list[str]:
        """Return the instances that answered such requests, in order."""
        return [instance for asked, instance in self.served if asked == method]

    async def _note(self, response: httpx2.Response) -> None:
        if response.request.method == "POST":
            asked = json.loads(response.request.content).get("method", "answer")
            self.served.append((asked, response.headers.get("x-tmcp-instance", "")))

    @asynccontextmanager
    async def _tapped(self, transport: Transport) -> AsyncGenerator[TransportStreams]:
        async with transport as (read, write):
            yield _Tap(read, self._hear), write

    def _hear(self, item: SessionMessage | Exception) -> None:
        if isinstance(item, Exception):
            raise item
        self.heard.append(item.message)
        self.news.set()

    async def _elicit(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context
        self.asked.append(params)
        self.news.set()
        try:
            await self.may_answer.wait()
            return self.answer or await asyncio.Future()
        except asyncio.CancelledError:
            self.given_up += 1
            self.news.set()
            raise

    async def _sample(
        self, context: object, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        del context
        asked = params.messages[0].content
        text = f"{asked.text}!" if isinstance(asked, types.TextContent) else ""
        return types.CreateMessageResult(
            role="assistant", model="parrot", content=types.TextContent(text=text)
        )

    async def _roots(self, context: object) -> types.ListRootsResult:
        del context
        return types.ListRootsResult.model_validate({"roots": [{"uri": uri} for uri in ROOTS]})


class _Tap:
    """A read stream that shows what goes through it."""

    def __init__(self, stream: Incoming, show: Callable[[SessionMessage | Exception], None]) -> None:
        self._stream = stream
        self._show = show

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive(self) -> SessionMessage | Exception:
        item = await self._stream.receive()
        self._show(item)
        return item

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        item = await self._stream.__anext__()
        self._show(item)
        return item

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)


def text_of(result: types.CallToolResult) -> str:
    """Return the text of a tool's result, which must be no error."""
    texts = [content.text for content in result.content if isinstance(content, types.TextContent)]
    assert not result.is_error, texts
    return "\n".join(texts)
