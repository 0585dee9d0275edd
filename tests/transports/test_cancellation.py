"""Cancellation where it is not simple: twice, while the server still starts, and by nobody at all."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp_types import NotificationParams

from tests.support.client import Client
from tests.support.sse_client import SseClient
from tests.support.talkative import Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless.handshake.running_request import RunningRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler

CANCELLED = {"code": -32800, "message": "Request cancelled"}

pytestmark = pytest.mark.slow_store


class Cancellations:
    """How often a request of this process was told that it is cancelled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard = 0
        cancel = RunningRequest.cancel

        def counted(running: RunningRequest) -> None:
            self.heard += 1
            cancel(running)

        monkeypatch.setattr(RunningRequest, "cancel", counted)

    async def count(self, number: int) -> None:
        async def enough() -> bool:
            return self.heard >= number

        await eventually(enough)


@pytest.fixture
def cancellations(monkeypatch: pytest.MonkeyPatch) -> Cancellations:
    return Cancellations(monkeypatch)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def tidy_server(stage: Stage) -> MCPServer:
    server = MCPServer("tidy", log_level="ERROR")

    @server.tool()
    async def tidy() -> str:
        stage.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await stage.go_on.wait()
            stage.finished.set()
        return "never"

    return server


def call(tool: str, *, id: Any = "c", **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


async def cancel(client: Client, id: Any = "c") -> None:
    assert (await client.notify("notifications/cancelled", {"requestId": id})).status == 202


@pytest.mark.parametrize("second", ["cancelled", "deleted"])
async def test_a_tool_that_is_cancelled_twice_cleans_up_and_is_answered(
    new_handler: NewHandler, stage: Stage, cancellations: Cancellations, second: str
) -> None:
    client = await Client(*(new_handler(tidy_server(stage)).app for _ in range(2))).initialize()
    async with client.send("POST", call("tidy")) as exchange:
        await stage.started.wait()
        await cancel(client)
        await cancellations.count(1)
        if second == "cancelled":
            await cancel(client)
        else:
            assert (await client.delete()).status == 200
        await cancellations.count(2)
        stage.go_on.set()
        assert (await exchange.whole()).messages[-1]["error"] == CANCELLED
    assert stage.finished.is_set(), "it was not disturbed while it cleaned up"


async def test_over_sse_too_a_tool_that_is_cancelled_twice_cleans_up_and_is_answered(
    new_handler: NewHandler, stage: Stage, cancellations: Cancellations
) -> None:
    async with SseClient(*(new_handler(tidy_server(stage)).app for _ in range(2))) as client:
        await client.initialize()
        async with client.calling("tidy", id="c"):
            await stage.started.wait()
            for times in (1, 2):
                await cancel(client)
                await cancellations.count(times)
            stage.go_on.set()
            assert (await client.answered("c"))["error"] == CANCELLED
    assert stage.finished.is_set()


async def test_a_host_that_stops_while_a_cancelled_tool_cleans_up_is_not_kept_from_it(
    new_handler: NewHandler, stage: Stage, cancellations: Cancellations
) -> None:
    tasks: list[asyncio.Task[Any] | None] = []
    app = new_handler(tidy_server(stage)).app

    async def stoppable(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        await app(scope, receive, send)

    client = await Client(app).initialize()
    doomed = Client(stoppable)
    doomed.session = client.session
    exchange = await doomed.send("POST", call("tidy")).__aenter__()
    await stage.started.wait()
    await cancel(client)
    await cancellations.count(1)
    assert tasks[0] is not None
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.whole()
    assert not stage.finished.is_set()


# What a handler waits for may be cancelled though the request is not


def clumsy_server(*, talks: bool) -> MCPServer:
    server = MCPServer("clumsy", log_level="CRITICAL")

    @server.tool()
    async def clumsy(ctx: Context) -> str:
        if talks:
            await ctx.report_progress(1)
        lost = asyncio.create_task(asyncio.sleep(60))
        lost.cancel()
        await lost
        return "never"

    @server.tool()
    async def fine() -> str:
        return "fine"

    return server


@pytest.mark.parametrize("talks", [False, True])
async def test_a_tool_that_awaits_something_cancelled_has_failed_and_was_not_stopped(
    new_handler: NewHandler, *, talks: bool
) -> None:
    client = await Client(new_handler(clumsy_server(talks=talks)).app).initialize()
    error = (await client.post(call("clumsy"))).messages[-1]["error"]
    assert error["code"] == -32603
    assert "call again" not in error["message"], "it would fail again"
    assert await client.call("fine") == "fine"


async def test_in_a_batch_too_it_is_answered(new_handler: NewHandler) -> None:
    client = await Client(new_handler(clumsy_server(talks=False)).app, version="2025-03-26").initialize()
    posted = await client.post([call("clumsy", id=1), call("fine", id=2)])
    outcomes = {message["id"]: message.get("error", {}).get("code") for message in posted.messages}
    assert outcomes == {1: -32603, 2: None}


async def test_over_sse_too_it_is_answered(new_handler: NewHandler) -> None:
    async with SseClient(new_handler(clumsy_server(talks=True)).app) as client:
        await client.initialize()
        async with client.calling("clumsy"):
            assert (await client.answered(7))["error"]["code"] == -32603


async def test_a_notification_whose_handler_awaits_something_cancelled_harms_nobody(
    new_handler: NewHandler,
) -> None:
    async def clumsy(_ctx: Any, _params: NotificationParams) -> None:
        lost = asyncio.create_task(asyncio.sleep(60))
        lost.cancel()
        await lost

    server: Server[Any] = Server("clumsy")
    server.add_notification_handler("notifications/roots/list_changed", NotificationParams, clumsy)
    client = await Client(new_handler(server).app).initialize()
    assert (await client.notify("notifications/roots/list_changed")).status == 202


# A cold start: the request is there before the server is


class ColdStart:
    """Two instances of one server: one that serves, and one whose lifespan takes until it is let on."""

    def __init__(self, new_handler: NewHandler) -> None:
        self.entering = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ran = 0
        self._new_handler = new_handler
        self._servers = itertools.count()

    def instance(self) -> Any:
        number = next(self._servers)

        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncGenerator[None]:
            if number:
                self.entering.set()
                await self.go_on.wait()
            yield

        server = MCPServer("cold", log_level="ERROR", lifespan=lifespan)

        @server.tool()
        async def run() -> str:
            self.ran += 1
            return "ran"

        return self._new_handler(server).app


@pytest.mark.parametrize("version", ["2025-11-25", "2025-03-26"])
async def test_a_request_that_is_cancelled_while_its_server_starts_is_answered_and_not_run(
    new_handler: NewHandler, cancellations: Cancellations, version: str
) -> None:
    cold_start = ColdStart(new_handler)
    warm = await Client(cold_start.instance(), version=version).initialize()
    cold = Client(cold_start.instance(), version=version)
    cold.session = warm.session
    batch = version == "2025-03-26"
    body: Any = [call("run"), call("run", id="other")] if batch else call("run")

    async def cancelled(exchange: Exchange) -> None:
        await cold_start.entering.wait()
        await cancel(warm)
        await cancellations.count(1)
        cold_start.go_on.set()
        await exchange.whole()

    async with cold.send("POST", body) as exchange:
        await cancelled(exchange)
    answers = {message["id"]: message for message in exchange.messages}
    assert answers["c"]["error"] == CANCELLED
    assert cold_start.ran == len(answers) - 1 == int(batch)


async def test_a_tool_that_outlives_its_cancellation_is_answered_with_its_result(
    new_handler: NewHandler, stage: Stage, cancellations: Cancellations
) -> None:
    server = MCPServer("stubborn", log_level="ERROR")

    @server.tool()
    async def stubborn() -> str:
        stage.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await stage.go_on.wait()
        return "done all the same"

    client = await Client(new_handler(server).app).initialize()
    async with client.send("POST", call("stubborn")) as exchange:
        await stage.started.wait()
        await cancel(client)
        await cancellations.count(1)
        stage.go_on.set()
        result = (await exchange.whole()).messages[-1]["result"]
    assert result["content"][0]["text"] == "done all the same"


async def test_a_cancellation_reaches_a_request_that_asked_before_it_lasted(
    new_handler: NewHandler, stage: Stage, cancellations: Cancellations
) -> None:
    client = Client(new_handler(talkative_server(stage)).app)
    await client.initialize(capabilities={"elicitation": {"form": {}}})
    async with client.send("POST", call("favourite")) as exchange:
        await exchange.count(1)
        await cancel(client)
        assert (await exchange.whole()).messages[-1]["error"] == CANCELLED
    assert cancellations.heard == 1
