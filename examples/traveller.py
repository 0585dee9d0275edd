"""The official client on a tour: it notes every message that reaches it, and every request that it makes."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from examples.report import Request, expect

if TYPE_CHECKING:
    from examples.guide import Guide

__all__ = ["Traveller"]


class Traveller:
    """The official client, with a record of every message that reaches it."""

    def __init__(
        self,
        guide: "Guide",
        name: str,
        *,
        elicitation: types.ElicitResult | None = None,
        mode: Literal["legacy", "auto"] = "legacy",
    ) -> None:
        self.name = name
        self.mode = mode
        self.session_id = ""
        self.logs: list[tuple[str, Any]] = []
        self.progress: list[tuple[float, float | None]] = []
        self.updates: list[str] = []
        self.tools_changed = 0
        self.questions: list[str] = []
        self._guide = guide
        self._answer = elicitation
        self._news = asyncio.Event()
        self._arrived = asyncio.Event()
        self._leaving = asyncio.Event()

    async def _stay(self) -> None:
        """Open the session, keep it until `leave`, and end it with a DELETE; or do without a session.

        This has a task of its own: errors of the client's own tasks come out here, and in no other place.
        """
        timeout = httpx2.Timeout(30, read=300)
        async with (
            httpx2.AsyncClient(timeout=timeout, event_hooks={"response": [self._note]}) as http,
            Client(
                streamable_http_client(self._guide.url, http_client=http),
                mode=self.mode,
                logging_callback=self._on_log,
                message_handler=self._on_message,
                elicitation_callback=self._on_question if self._answer is not None else None,
                client_info=types.Implementation(name=self.name, version="1.0.0"),
            ) as self.client,
        ):
            self._arrived.set()
            await self._leaving.wait()

    async def arrive(self) -> None:
        """Return when the session is open."""
        self._task = asyncio.create_task(self._stay(), name=self.name)
        self._task.add_done_callback(self._guide.on_departure)
        await self._arrived.wait()

    async def leave(self) -> None:
        """End the session, and return when it has been ended. Idempotent."""
        self._leaving.set()
        await asyncio.wait({self._task})

    async def vanish(self) -> None:
        """End the client at once, even during a request."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def tool(self, name: str, **arguments: Any) -> types.CallToolResult:
        """Call a tool that must succeed, and record its progress."""
        result = await self.client.call_tool(name, arguments, progress_callback=self._on_progress)
        expect(not result.is_error, result.content)
        return result

    async def call(self, name: str, **arguments: Any) -> Any:
        """Call a tool that must succeed; return its structured content, unwrapped if it is no object."""
        content = (await self.tool(name, **arguments)).structured_content
        return content["result"] if content is not None and content.keys() == {"result"} else content

    async def ask(self, request: types.ClientRequest) -> None:
        """Send a request with an empty result. (The client's own methods warn that it is an older one.)"""
        await self.client.session.send_request(request, types.EmptyResult)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news that make the condition true."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def all(self, what: str) -> list[Request]:
        """Return this traveller's answered requests of that kind, in order."""
        return [
            request for request in self._guide.requests if (request.by, request.what) == (self.name, what)
        ]

    def last(self, what: str) -> Request | None:
        """Return the last of these requests."""
        mine = self.all(what)
        return mine[-1] if mine else None

    async def _note(self, response: httpx2.Response) -> None:
        self._guide.note(self.name, response)
        self.session_id = response.headers.get("mcp-session-id", self.session_id)
        self._news.set()

    async def _on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append((params.level, params.data))
        self._news.set()

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        del message
        self.progress.append((progress, total))
        self._news.set()

    async def _on_message(self, message: types.ServerNotification | Exception) -> None:
        match message:
            case types.ResourceUpdatedNotification(params=params):
                self.updates.append(params.uri)
            case types.ToolListChangedNotification():
                self.tools_changed += 1
            case _:
                return
        self._news.set()

    async def _on_question(self, context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context
        self.questions.append(params.message)
        assert self._answer is not None  # noqa: S101 - the callback is only installed with an answer
        return self._answer
