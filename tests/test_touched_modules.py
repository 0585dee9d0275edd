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

TRIES = 5
"""Timers run beside some of the requests: the one with the fewest modules counts."""


async def test_a_warm_call_runs_through_few_modules(new_handler: NewHandler) -> None:
    server = MCPServer("adding", log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    client = await Client(new_handler(server).app).initialize()
    assert await client.call("add", a=1, b=2) == "3"
    tries: list[set[str]] = []
    for _ in range(TRIES):
        with touched_modules() as touched:
            assert await client.call("add", a=2, b=2) == "4"
        tries.append(touched)
    least = min(tries, key=len)
    assert len(least) <= MOST_OF_A_CALL, sorted(least)


async def test_a_warm_elicitation_runs_through_few_modules(new_handler: NewHandler) -> None:
    client = await Client(new_handler(talkative_server(Stage())).app).initialize(capabilities=CAPABILITIES)
    # As most clients have one open: over Postgres its connection for LISTEN is there already.
    async with client.listen() as stream:
        await stream.begun()
        await _elicit(client)
        tries: list[set[str]] = []
        for _ in range(TRIES):
            with touched_modules() as touched:
                await _elicit(client)
            tries.append(touched)
    least = min(tries, key=len)
    assert len(least) <= MOST_OF_AN_ELICITATION, sorted(least)


async def _elicit(client: Client) -> None:
    """Call a tool that asks the client, and reply."""
    call = {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "favourite"}}
    async with client.send("POST", call) as exchange:
        (asked,) = await exchange.count(1)
        result = {"action": "accept", "content": {"color": "blue"}}
        await client.post({"jsonrpc": "2.0", "id": asked["id"], "result": result})
        await exchange.whole()
    assert exchange.messages[-1]["result"]["content"][0]["text"] == "accept blue"
