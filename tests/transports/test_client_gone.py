"""A client that is gone, as whatever its server raises: never a problem of the tool that speaks to it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from starlette.requests import ClientDisconnect

from tests.support.client import Client
from tests.support.front import Front, Sent
from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient
from tests.support.waiting import eventually
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler, NewManagers

MODERN = "2026-07-28"
HANDSHAKE = ["2025-03-26", "2025-06-18", "2025-11-25"]
RAISED = [
    RuntimeError("Unexpected ASGI message 'http.response.body' sent"),
    anyio.ClosedResourceError(),
    anyio.BrokenResourceError(),
    ClientDisconnect(),
    ConnectionResetError(),
    ExceptionGroup("several", [ValueError("one")]),
]
RAISES = pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)


class Tool:
    """A server whose tool talks to its client, and what became of that."""

    def __init__(self) -> None:
        self.outcomes: list[BaseException | None] = []
        self.server: MCPServer[Any] = MCPServer("talking")

        @self.server.tool()
        async def talk(ctx: Context[Any, Any]) -> str:
            for _ in range(3):
                try:
                    await ctx.report_progress(1, 2)
                except BaseException as error:
                    self.outcomes.append(error)
                    raise
            self.outcomes.append(None)
            return "said"

    async def called(self, client: Client) -> None:
        """Call the tool; the host is told of no error."""
        params = {"name": "talk", "arguments": {}, "_meta": {"progressToken": "p"}}
        await client.ask("tools/call", params)


def leaving_at(number: int, raised: Exception) -> Any:
    """Return what raises from the given ASGI message on."""
    sent: list[Sent] = []

    async def before(_: str, message: Sent) -> None:
        sent.append(message)
        if len(sent) >= number:
            raise raised

    return before


@RAISES
@pytest.mark.parametrize("version", HANDSHAKE)
@pytest.mark.parametrize("number", [1, 3, 4])
async def test_a_tool_of_the_handshake_era_does_not_notice(
    raised: Exception, version: str, number: int, new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    tool = Tool()
    handler = new_handler(tool.server)
    client = await Client(handler.app, version=version).initialize()
    gone = Client(Front(handler.app, before=leaving_at(number, raised)), version=version)
    gone.session = client.session
    with caplog.at_level(logging.INFO, "tmcp_serverless"):
        await tool.called(gone)
    assert tool.outcomes == [None]
    told = [record for record in caplog.records if "counts as gone" in record.message]
    assert len(told) == (not isinstance(raised, OSError))
    assert all(type(raised).__name__ in record.message for record in told)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@RAISES
async def test_a_tool_of_the_modern_era_is_stopped_and_sees_no_error_of_the_servers(
    raised: Exception, new_handler: NewHandler
) -> None:
    tool = Tool()
    client = ModernClient(Front(new_handler(tool.server).app, before=leaving_at(2, raised)))
    params = {"name": "talk", "arguments": {}, "_meta": {"progressToken": "p"}}
    async with client.asking("tools/call", params) as exchange:
        await exchange.until(lambda: exchange.ended)
    assert tool.outcomes
    assert all(isinstance(outcome, asyncio.CancelledError | None) for outcome in tool.outcomes)


@RAISES
async def test_a_standalone_stream_ends_when_its_server_raises(
    raised: Exception, new_handler: NewHandler
) -> None:
    handler = new_handler(Tool().server)
    client = await Client(handler.app).initialize()
    gone = Client(Front(handler.app, before=leaving_at(3, raised)))
    gone.session = client.session
    async with gone.listen() as stream:
        await stream.begun()
        await handler.notifier.tools_changed()
        await stream.until(lambda: stream.ended)

    async def released() -> bool:
        return not await handler.managers.streams.has(client.session or "")

    await eventually(released)


@RAISES
async def test_a_tool_over_http_sse_does_not_notice(raised: Exception, new_handler: NewHandler) -> None:
    tool = Tool()
    handler = new_handler(tool.server)
    async with SseClient(handler.app) as client:
        await client.initialize()
        # The POST's own client: its session's stream stays.
        gone = Client(Front(handler.app, before=leaving_at(1, raised)))
        gone.path = client.path
        await tool.called(gone)
        assert tool.outcomes == [None]
        await client.answered(1)


@RAISES
async def test_the_handler_of_a_notification_runs_though_nobody_reads_that_it_was_accepted(
    raised: Exception, new_handler: NewHandler
) -> None:
    ran = asyncio.Event()

    async def changed(*_: Any) -> None:
        ran.set()

    server = Server("notified", on_roots_list_changed=changed)  # pyright: ignore[reportDeprecated]
    handler = new_handler(server)
    client = await Client(handler.app).initialize()
    gone = Client(Front(handler.app, before=leaving_at(1, raised)))
    gone.session = client.session
    await gone.notify("notifications/roots/list_changed")
    assert ran.is_set()


@RAISES
async def test_a_stream_ends_when_its_server_cannot_say_if_the_client_is_there(
    raised: Exception, new_handler: NewHandler
) -> None:
    handler = new_handler(Tool().server)
    client = await Client(handler.app).initialize()
    asked: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive

        async def failing() -> Any:
            asked.append(True)
            raise raised

        await handler.app(scope, failing, send)

    unsure = Client(app)
    unsure.session = client.session
    async with unsure.listen() as stream:
        await stream.until(lambda: stream.ended)
    assert asked
    posted = await unsure.notify("notifications/roots/list_changed")
    assert posted.status == 400


async def test_a_message_that_comes_while_a_clients_stream_is_given_back_is_for_its_next_stream(
    new_managers: NewManagers,
) -> None:
    """Also for a client that has no event id: the server knows that it was gone."""
    managers = new_managers()
    released, go_on = asyncio.Event(), asyncio.Event()
    release = managers.streams.release

    async def slow_release(id: str, controller: Any = None) -> None:
        released.set()
        await go_on.wait()
        await release(id, controller)

    managers.streams.release = slow_release
    handler = create_handler(MCPServer("talking"), session_manager=managers)
    client = await Client(handler.app, version="2025-06-18").initialize()
    assert client.session is not None
    async with client.listen() as stream:
        await stream.begun()
        await handler.notifier.send([client.session], {"method": "notifications/message", "params": {"n": 1}})
        await stream.count(1)
        stream.leave()
        await released.wait()
        await handler.notifier.send([client.session], {"method": "notifications/message", "params": {"n": 2}})
        await asyncio.sleep(0.1)  # For the stream's reader to find it; where it does not, nothing is shown.
        go_on.set()
    async with client.listen() as following:
        (message,) = await following.count(1)
    assert message["params"] == {"n": 2}
    await handler.aclose()
