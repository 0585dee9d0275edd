"""What a tool has left running when it returns, and what else outlives the request that it came with."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import CONNECTION_CLOSED
from pydantic import BaseModel

from tests.support.client import Client
from tests.support.sse_client import SseClient
from tests.support.talkative import CAPABILITIES
from tmcp_serverless.handshake.addresses import inbox_of, request_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Leftovers:
    """A server whose tools return, and leave a task behind."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked = asyncio.Event()
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def server(self) -> MCPServer:
        server = MCPServer("leftovers", log_level="ERROR")

        @server.tool()
        async def asks_later(ctx: Context) -> str:
            self._leave(self._ask(ctx, at_once=False))
            return "returned"

        @server.tool()
        async def asks_at_once(ctx: Context) -> str:
            self._leave(self._ask(ctx, at_once=True))
            await self.asked.wait()
            return "returned"

        @server.tool()
        async def speaks_later(ctx: Context) -> str:
            self._leave(self._speak(ctx))
            return "returned"

        return server

    def _leave(self, work: Any) -> None:
        self._task = asyncio.create_task(self._finish(work))

    async def _finish(self, work: Any) -> None:
        try:
            self.outcome.set_result(await work)
        except MCPError as error:
            self.outcome.set_result(error)

    async def _ask(self, ctx: Context, *, at_once: bool) -> Any:
        if not at_once:
            await self.go_on.wait()
        return await ctx.session.list_roots()  # pyright: ignore[reportDeprecated]

    async def _speak(self, ctx: Context) -> str:
        await self.go_on.wait()
        await ctx.session.send_tool_list_changed()
        return "spoke"


@pytest.fixture
async def leftovers() -> Leftovers:
    return Leftovers()


def call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


async def test_who_asks_after_the_answer_is_told_that_nobody_can_be_asked(
    new_handler: NewHandler, leftovers: Leftovers
) -> None:
    handler = new_handler(leftovers.server())
    client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
    async with client.listen() as stream:
        await stream.begun()
        await client.post(call("asks_later"))
        leftovers.go_on.set()
        async with asyncio.timeout(30):
            assert isinstance(await leftovers.outcome, NoBackChannelError)
        assert stream.messages == []
    assert not await handler.managers.streams.has(inbox_of(client.session or "", request_name(7)))


async def test_who_still_waits_for_an_answer_when_the_tool_returns_waits_no_longer(
    new_handler: NewHandler, leftovers: Leftovers
) -> None:
    handler = new_handler(leftovers.server())
    client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
    async with client.listen() as stream:
        await stream.begun()
        async with client.send("POST", call("asks_at_once")) as exchange:
            assert (await stream.count(1))[0]["method"] == "roots/list"
            leftovers.asked.set()
            await exchange.whole()
        async with asyncio.timeout(30):
            error = await leftovers.outcome
        assert isinstance(error, MCPError)
        assert error.error.code == CONNECTION_CLOSED
    assert not await handler.managers.streams.has(inbox_of(client.session or "", request_name(7)))


async def test_who_speaks_after_an_sse_session_has_ended_leaves_nothing_in_the_store(
    new_handler: NewHandler, leftovers: Leftovers
) -> None:
    handler = new_handler(leftovers.server())
    async with SseClient(handler.app) as client:
        await client.initialize()
        await client.result("tools/call", {"name": "speaks_later", "arguments": {}})
    leftovers.go_on.set()
    async with asyncio.timeout(30):
        assert await leftovers.outcome == "spoke"
    assert await handler.managers.streams.append(client.id, "{}", create=False) is None, (
        "it has no mailbox any more"
    )


async def test_what_a_lifespan_starts_does_not_run_as_the_first_user(new_handler: NewHandler) -> None:
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        async def job() -> None:
            found.set_result(user.get())

        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(job())
            yield

    app = new_handler(MCPServer("jobs", log_level="ERROR", lifespan=lifespan)).app

    async def authenticated(scope: Any, receive: Any, send: Any) -> None:
        token = user.set("alice")
        try:
            await app(scope, receive, send)
        finally:
            user.reset(token)

    await Client(authenticated).initialize()
    async with asyncio.timeout(30):
        assert await found == "nobody"


class Color(BaseModel):
    color: str


async def test_progress_that_is_too_large_for_a_number_is_dropped_and_the_inbox_heard_on(
    new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    server = MCPServer("asks", log_level="ERROR")

    @server.tool()
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which color?", Color)
        return answer.data.color if answer.action == "accept" else ""

    client = await Client(*(new_handler(server).app for _ in range(2))).initialize(capabilities=CAPABILITIES)
    async with client.send("POST", call("ask")) as exchange:
        question = (await exchange.count(1))[0]
        params = f'{{"progressToken":"{question["id"]}","progress":1{"0" * 400}}}'
        message = f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}'
        assert (await client.post(message.encode())).status == 202
        answer = {"action": "accept", "content": {"color": "red"}}
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": answer})
        assert (await exchange.whole()).messages[-1]["result"]["content"][0]["text"] == "red"
    assert "a stream ended" not in caplog.text
