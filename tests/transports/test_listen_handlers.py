"""A server's own listen handler and bus are honoured, over managers of every kind."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import FastMCP
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import ToolsListChanged

from tests.support.bare_managers import BareInfo, BareStreams, bare_managers
from tests.support.modern import INTERNAL_ERROR, ModernClient, error_of, methods, short_lived
from tmcp_serverless import InMemoryEventTopic, Notifier, SessionManagers, create_handler
from tmcp_serverless.modern.own_bus import own_handler
from tmcp_serverless.sdk.server_kind import lowlevel_server

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


class Refusing(ListenHandler):
    """A subclass that refuses to serve prompts, and takes a moment before it serves anything else."""

    async def __call__(self, ctx: Any, params: Any) -> Any:
        await asyncio.sleep(0.01)
        if params.notifications.prompts_list_changed:
            raise MCPError(-32001, "no prompts for you")
        return await super().__call__(ctx, params)


def listening(handler: ListenHandler) -> Server[Any]:
    return Server("own", on_subscriptions_listen=handler)


def official(handler: ListenHandler) -> MCPServer:
    server = MCPServer("own", log_level="CRITICAL")
    lowlevel_server(server).add_request_handler("subscriptions/listen", own_params(), handler)
    return changing(server)


async def test_a_subclass_is_asked(new_handler: NewHandler) -> None:
    client = ModernClient(new_handler(listening(Refusing(InMemorySubscriptionBus()))).app)
    async with client.listen(promptsListChanged=True) as refused:
        assert error_of(await refused.whole())[1] == -32001
    async with client.listen(toolsListChanged=True) as accepted:
        await accepted.count(1)
        assert methods(accepted) == [ACKNOWLEDGED]


@pytest.mark.parametrize("build", [listening, official], ids=["lowlevel", "MCPServer"])
async def test_a_refusal_of_a_subclass_is_the_answer(build: Any, new_handler: NewHandler) -> None:
    app = new_handler(build(Refusing(InMemorySubscriptionBus()))).app
    async with ModernClient(app).listen(promptsListChanged=True) as refused:
        await refused.whole()
    assert refused.messages[-1]["error"] == {"code": -32001, "message": "no prompts for you"}


@pytest.mark.parametrize("build", [listening, official], ids=["lowlevel", "MCPServer"])
@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_its_limit_and_its_close_hold(
    build: Any, kind: type[ListenHandler], new_handler: NewHandler
) -> None:
    own = kind(InMemorySubscriptionBus(), max_subscriptions=1)
    app = new_handler(build(own)).app
    async with ModernClient(app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        async with ModernClient(app).listen(toolsListChanged=True) as second:
            await second.whole()
        assert second.messages[-1]["error"]["message"] == "Subscription limit reached"
        own.close()
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]
    async with ModernClient(app).listen(toolsListChanged=True) as next_one:
        await next_one.count(1)
        assert methods(next_one) == [ACKNOWLEDGED]


@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_the_limit_of_streams_is_the_owners(new_handler: NewHandler, kind: type[ListenHandler]) -> None:
    client = ModernClient(new_handler(listening(kind(InMemorySubscriptionBus(), max_subscriptions=2))).app)
    async with client.listen(toolsListChanged=True) as one, client.listen(toolsListChanged=True) as two:
        await one.count(1)
        await two.count(1)
        async with client.listen(toolsListChanged=True) as three:
            assert error_of(await three.whole())[1] == INTERNAL_ERROR


@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_what_a_stream_may_have_waiting_is_the_owners(
    new_handler: NewHandler, kind: type[ListenHandler]
) -> None:
    bus = InMemorySubscriptionBus()
    own = kind(bus, max_buffered_events=2)
    client = ModernClient(new_handler(listening(own)).app)
    async with client.listen(toolsListChanged=True) as stream:
        await stream.count(1)
        # Without a moment in between, for the stream would send them.
        for listener in list(vars(bus)["_listeners"].values()):
            for _ in range(5):
                listener(ToolsListChanged())
        await stream.whole()
    # One is with the stream already, and two wait.
    assert methods(stream) == [ACKNOWLEDGED, TOOLS, TOOLS, TOOLS, "result"]


@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_close_ends_every_stream_of_the_handler(
    new_handler: NewHandler, kind: type[ListenHandler]
) -> None:
    own = kind(InMemorySubscriptionBus())
    client = ModernClient(new_handler(listening(own)).app)
    async with client.listen(toolsListChanged=True) as one, client.listen(toolsListChanged=True) as two:
        await one.count(1)
        await two.count(1)
        own.close()
        await one.whole()
        await two.whole()
    assert methods(one) == methods(two) == [ACKNOWLEDGED, "result"]
    async with client.listen(toolsListChanged=True) as again:
        await again.count(1)
        assert methods(again) == [ACKNOWLEDGED]


async def test_close_of_an_mcpservers_handler_ends_its_streams(new_handler: NewHandler) -> None:
    server = MCPServer("own")
    client = ModernClient(new_handler(server).app)
    async with client.listen(toolsListChanged=True) as stream:
        await stream.count(1)
        own_handler(server).close()
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]


@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_streams_of_an_own_handler_end_before_their_host_and_when_it_drains(
    new_handler: NewHandler, kind: type[ListenHandler]
) -> None:
    handler = new_handler(listening(kind(InMemorySubscriptionBus())))
    async with ModernClient(handler.app, scope=short_lived(2.5)).listen(toolsListChanged=True) as stream:
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]
    async with ModernClient(handler.app).listen(id="me", toolsListChanged=True) as stream:
        await stream.count(1)
        await handler.drain()
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]
    assert "me" in str(stream.messages[-1]["result"]["_meta"])


@pytest.mark.parametrize("kind", [ListenHandler, Refusing])
async def test_what_the_owner_publishes_to_the_own_bus_is_heard(
    new_handler: NewHandler, kind: type[ListenHandler]
) -> None:
    bus = InMemorySubscriptionBus()
    client = ModernClient(new_handler(listening(kind(bus))).app)
    async with client.listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await bus.publish(ToolsListChanged())
        await stream.count(2)
    assert methods(stream) == [ACKNOWLEDGED, TOOLS]


class OwnBus(InMemorySubscriptionBus):
    """Somebody's subclass."""


@pytest.mark.parametrize("kind", [InMemorySubscriptionBus, OwnBus])
async def test_a_bus_that_an_mcpserver_was_given_is_heard(
    new_handler: NewHandler, kind: type[InMemorySubscriptionBus]
) -> None:
    bus = kind()
    client = ModernClient(new_handler(changing(MCPServer("own", subscriptions=bus))).app)
    async with client.listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await bus.publish(ToolsListChanged())
        await stream.count(2)
        await client.call("change")
        await stream.count(3)
    assert methods(stream) == [ACKNOWLEDGED, TOOLS, TOOLS]


async def test_a_notifier_reaches_the_streams_of_a_lowlevel_server(new_handler: NewHandler) -> None:
    handlers = [new_handler(listening(ListenHandler(InMemorySubscriptionBus()))) for _ in range(2)]
    async with ModernClient(handlers[0].app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await handlers[1].notifier.tools_changed()
        await stream.count(2)
    assert methods(stream) == [ACKNOWLEDGED, TOOLS]


async def test_a_handler_that_cannot_hear_other_instances_is_named(
    new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    server: Any = MCPServer("own")
    own = Refusing(server._subscriptions)
    server._lowlevel_server.add_request_handler("subscriptions/listen", own_params(), own)
    client = ModernClient(new_handler(changing(server)).app)
    with caplog.at_level(logging.WARNING):
        async with client.listen(toolsListChanged=True) as stream:
            await stream.count(1)
            await client.call("change")
            await stream.count(2)
    assert methods(stream) == [ACKNOWLEDGED, TOOLS]
    assert "Refusing serves the listen streams itself" in caplog.text


def own_params() -> Any:
    from mcp_types import SubscriptionsListenRequestParams

    return SubscriptionsListenRequestParams


# Over managers with the abstract methods alone


def changing(server: MCPServer) -> MCPServer:
    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool()
    async def update(ctx: Context) -> str:
        await ctx.notify_resource_updated("note://one")
        return "updated"

    return server


async def test_over_bare_managers_a_stream_hears_what_a_tool_publishes_once() -> None:
    async with create_handler(changing(MCPServer("bare")), session_manager=bare_managers()) as handler:
        client = ModernClient(handler.app)
        async with client.listen(toolsListChanged=True, resourceSubscriptions=["note://one"]) as stream:
            await stream.count(1)
            for tool in ("change", "update", "change"):
                await client.call(tool)
            await stream.count(4)
            await handler.notifier.tools_changed()
            await stream.count(5)
        assert methods(stream) == [ACKNOWLEDGED, TOOLS, UPDATED, TOOLS, TOOLS]


async def test_over_bare_managers_listen_streams_hear_their_own_process() -> None:
    server = official(ListenHandler(InMemorySubscriptionBus()))
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["test://a"]}
    async with create_handler(server, session_manager=bare_managers()) as handler:
        client = ModernClient(handler.app)
        async with client.listen(**wanted) as stream:
            await stream.count(1)
            await client.call("change")
            await stream.count(2)
            await handler.notifier.resource_updated("test://a")
            await stream.count(3)
            await handler.notifier.tools_changed()
            await stream.count(4)
        assert methods(stream) == [ACKNOWLEDGED, TOOLS, UPDATED, TOOLS]


@pytest.mark.parametrize("server", [lambda: MCPServer("bare"), lambda: FastMCP("bare")])
async def test_over_bare_managers_a_notifier_reaches_the_streams_of_its_process_once(server: Any) -> None:
    managers = bare_managers()
    async with create_handler(server(), session_manager=managers) as handler:
        client = ModernClient(handler.app)
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["note://one"]}
        async with client.listen(**wanted) as one, client.listen(id=2, **wanted) as two:
            await one.count(1)
            await two.count(1)
            for notifier in (handler.notifier, Notifier(managers)):
                await notifier.resource_updated("note://one")
                await notifier.tools_changed()
            for stream in (one, two):
                await stream.count(5)
                assert methods(stream) == [ACKNOWLEDGED, UPDATED, TOOLS, UPDATED, TOOLS]


async def test_a_server_keeps_its_bus_where_the_managers_have_no_topic() -> None:
    server: Any = MCPServer("both")
    own = server._subscriptions
    shared = SessionManagers(streams=BareStreams(), info=BareInfo(), events=InMemoryEventTopic())
    for managers, keeps in ((bare_managers(), True), (shared, False), (bare_managers(), True)):
        async with create_handler(server, session_manager=managers) as handler:
            await ModernClient(handler.app).ask("tools/list")
            assert (server._subscriptions is own) is keeps


async def test_a_boundary_of_a_subclass_is_asked(new_handler: NewHandler) -> None:
    asked: list[str] = []

    class Own(RequestStateBoundary):
        async def __call__(self, ctx: Any, call_next: Any) -> Any:
            asked.append(ctx.method)
            return await super().__call__(ctx, call_next)

    server: Any = changing(MCPServer("own"))
    security = RequestStateSecurity(keys=["k" * 32])
    server._lowlevel_server.middleware[:] = [Own(security, default_audience="own")]
    await ModernClient(new_handler(server).app).call("change")
    assert "tools/call" in asked
