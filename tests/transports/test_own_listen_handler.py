"""A server's own `ListenHandler` serves its listen streams: its refusals, its limits and its `close` hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp import MCPError
from mcp.server import MCPServer, Server
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp_types import SubscriptionsListenRequestParams

from tests.support.bare_managers import bare_managers
from tests.support.modern import ModernClient, methods, short_lived
from tmcp_serverless import create_handler
from tmcp_serverless.sdk import lowlevel_server

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CHANGED = "notifications/tools/list_changed"


class Refusing(ListenHandler):
    """Serves nobody who asks for prompts, and takes a moment before it serves anybody else."""

    async def __call__(self, ctx: Any, params: Any) -> Any:
        await asyncio.sleep(0.01)
        if params.notifications.prompts_list_changed:
            raise MCPError(-32001, "no prompts for you")
        return await super().__call__(ctx, params)


def lowlevel(handler: ListenHandler) -> Server[Any]:
    return Server("own", on_subscriptions_listen=handler)


def official(handler: ListenHandler) -> MCPServer:
    server = MCPServer("own", log_level="CRITICAL")
    lowlevel_server(server).add_request_handler(
        "subscriptions/listen", SubscriptionsListenRequestParams, handler
    )

    @server.tool()
    async def change(ctx: Context[Any, Any]) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    return server


@pytest.mark.parametrize("build", [lowlevel, official], ids=["lowlevel", "MCPServer"])
@pytest.mark.parametrize("of", [ListenHandler, Refusing], ids=["the SDK's", "a subclass"])
async def test_its_limit_and_its_close_hold(
    build: Any, of: type[ListenHandler], new_handler: NewHandler
) -> None:
    own = of(InMemorySubscriptionBus(), max_subscriptions=1)
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


@pytest.mark.parametrize("build", [lowlevel, official], ids=["lowlevel", "MCPServer"])
async def test_a_refusal_of_a_subclass_is_the_answer(build: Any, new_handler: NewHandler) -> None:
    app = new_handler(build(Refusing(InMemorySubscriptionBus()))).app
    async with ModernClient(app).listen(promptsListChanged=True) as refused:
        await refused.whole()
    assert refused.messages[-1]["error"] == {"code": -32001, "message": "no prompts for you"}


@pytest.mark.parametrize("of", [ListenHandler, Refusing], ids=["the SDK's", "a subclass"])
async def test_its_streams_end_with_a_result_before_their_host_does(
    of: type[ListenHandler], new_handler: NewHandler
) -> None:
    app = new_handler(lowlevel(of(InMemorySubscriptionBus()))).app
    async with ModernClient(app, scope=short_lived(3)).listen(toolsListChanged=True) as stream:
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]


@pytest.mark.parametrize("of", [ListenHandler, Refusing], ids=["the SDK's", "a subclass"])
async def test_its_streams_end_with_a_result_when_the_process_is_drained(
    of: type[ListenHandler], new_handler: NewHandler
) -> None:
    handler = new_handler(lowlevel(of(InMemorySubscriptionBus())))
    async with ModernClient(handler.app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await handler.drain()
        await stream.whole()
    assert methods(stream) == [ACKNOWLEDGED, "result"]


async def test_a_lowlevel_servers_own_bus_is_heard_and_nothing_else(new_handler: NewHandler) -> None:
    bus = InMemorySubscriptionBus()
    app = new_handler(lowlevel(ListenHandler(bus))).app
    async with ModernClient(app).listen(toolsListChanged=True) as stream:
        await stream.count(1)
        await bus.publish(ToolsListChanged())
        await stream.count(2)
        assert methods(stream) == [ACKNOWLEDGED, CHANGED]


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
        assert methods(stream) == [ACKNOWLEDGED, CHANGED, "notifications/resources/updated", CHANGED]
