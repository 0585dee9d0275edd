"""Number of the package's modules that one request runs through: the flow of a call stays short to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server import MCPServer

from tests.support.client import Client
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.touched_modules import touched_modules

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

MOST_OF_A_CALL = 22
MOST_OF_AN_ELICITATION = 36


async def test_a_warm_call_runs_through_few_modules(new_handler: NewHandler) -> None:
    server = MCPServer("adding", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    async with new_handler(server) as handler:
        client = await Client(handler.app).initialize()
        assert await client.call("add", a=1, b=2) == "3"
        with touched_modules() as touched:
            assert await client.call("add", a=2, b=2) == "4"
    print(len(touched), sorted(touched))


async def test_an_elicitation_runs_through_few_modules(new_handler: NewHandler) -> None:
    async with new_handler(talkative_server(Stage())) as handler:
        client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
        await _elicit(client)
        with touched_modules() as touched:
            await _elicit(client)
    print(len(touched), sorted(touched))


async def _elicit(client: Client) -> None:
    """Call a tool that asks the client once, and answer it."""
    call = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "favourite"}}
    async with client.send("POST", call) as exchange:
        (asked,) = await exchange.count(1)
        result = {"action": "accept", "content": {"color": "blue"}}
        await client.post({"jsonrpc": "2.0", "id": asked["id"], "result": result})
        await exchange.whole()
    assert exchange.messages[-1]["result"]["content"][0]["text"] == "accept blue"
