"""A tour of `examples/orders.py` over HTTP+SSE, by the official client of generation 1.

Run with the address of the stream. Every step prints a line of JSON, and so does the last, which says which
instances answered. Not imported by any test: `mcp` 1.x is in an environment of its own.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import McpError

OPEN_ORDERS = "orders://open"
STEP_SECONDS = 60
instances: set[str] = set()


class Traveller:
    """A session, and what the server has said to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.id = ""
        self.logs: list[str] = []
        self.progress: list[tuple[float, float | None]] = []
        self.updates: list[str] = []
        self.questions: list[str] = []
        self.tools_changed = 0
        self.news = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator["Traveller"]:
        async with (
            sse_client(self.url, httpx_client_factory=self.http, on_session_created=self.begin) as streams,
            ClientSession(
                *streams,
                elicitation_callback=self.elicit,
                logging_callback=self.log,
                message_handler=self.hear,
            ) as self.session,
        ):
            yield self

    def begin(self, session_id: str) -> None:
        self.id = session_id

    def http(self, headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
        client = create_mcp_http_client(headers=headers, timeout=timeout, auth=auth)

        async def note(response: Any) -> None:
            instances.add(response.headers["x-tmcp-instance"])

        client.event_hooks = {"response": [note]}
        return client

    async def log(self, params: Any) -> None:
        self.logs.append(params.level)
        self.news.set()

    async def report(self, progress: float, total: float | None, _message: str | None) -> None:
        self.progress.append((progress, total))
        self.news.set()

    async def elicit(self, _context: Any, params: Any) -> types.ElicitResult:
        self.questions.append(params.message)
        return types.ElicitResult(action="accept", content={"sure": True})

    async def hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, types.ServerNotification):
            if isinstance(message.root, types.ResourceUpdatedNotification):
                self.updates.append(str(message.root.params.uri))
            elif isinstance(message.root, types.ToolListChangedNotification):
                self.tools_changed += 1
            self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def call(self, tool: str, **arguments: Any) -> Any:
        result = await self.session.call_tool(tool, arguments, progress_callback=self.report)
        assert not result.isError, result
        return (result.structuredContent or {}).get("result", result.structuredContent)


async def initialize(ann: Traveller) -> Any:
    result = await ann.session.initialize()
    assert result.serverInfo.name == "orders", result
    assert result.capabilities.resources.subscribe, result
    return result.protocolVersion


async def ping(ann: Traveller) -> Any:
    await ann.session.send_ping()


async def tools(ann: Traveller) -> Any:
    names = [tool.name for tool in (await ann.session.list_tools()).tools]
    assert {"place_order", "ship_orders"} <= {*names}, names
    placed = await ann.call("place_order", item="teapot", quantity=3)
    assert placed["item"] == "teapot", placed
    ann.order = placed["id"]
    await ann.call("place_order", item="saucer", quantity=250)


async def resources(ann: Traveller) -> Any:
    listed = [str(resource.uri) for resource in (await ann.session.list_resources()).resources]
    assert OPEN_ORDERS in listed, listed
    templates = (await ann.session.list_resource_templates()).resourceTemplates
    assert [one.uriTemplate for one in templates] == ["orders://{order_id}"], templates
    [content] = (await ann.session.read_resource(f"orders://{ann.order}")).contents
    assert json.loads(content.text)["item"] == "teapot", content


async def prompts(ann: Traveller) -> Any:
    assert [prompt.name for prompt in (await ann.session.list_prompts()).prompts] == ["dispatch_note"]
    [message] = (await ann.session.get_prompt("dispatch_note", {"order_id": str(ann.order)})).messages
    assert "teapot" in message.content.text, message
    reference = types.PromptReference(type="ref/prompt", name="dispatch_note")
    argument = {"name": "order_id", "value": str(ann.order)}
    values = (await ann.session.complete(reference, argument)).completion.values
    assert str(ann.order) in values, values


async def progress_and_logs(ann: Traveller) -> Any:
    shipped = await ann.call("ship_orders")
    assert [done for done, _ in ann.progress] == list(range(1, len(shipped) + 1)), ann.progress
    assert {"debug", "info", "warning"} == {*ann.logs}, ann.logs
    return f"{len(ann.progress)} of progress, {len(ann.logs)} logs"


async def level(ann: Traveller) -> Any:
    await ann.session.set_logging_level("warning")
    await ann.call("place_order", item="saucer", quantity=250)
    ann.logs.clear()
    await ann.call("ship_orders")
    assert ann.logs == ["warning"], ann.logs


async def subscription(ann: Traveller, bob: Traveller) -> Any:
    await bob.session.initialize()
    await ann.session.subscribe_resource(OPEN_ORDERS)
    for told in range(1, 4):
        await bob.call("place_order", item="kettle")
        await ann.until(lambda told=told: len(ann.updates) >= told)
    assert ann.updates == [OPEN_ORDERS] * 3, ann.updates
    assert bob.updates == [], bob.updates


async def list_change(ann: Traveller, bob: Traveller) -> Any:
    await bob.call("announce_sale")
    for traveller in (ann, bob):
        await traveller.until(lambda traveller=traveller: traveller.tools_changed)
    await ann.session.send_ping()
    assert (ann.tools_changed, bob.tools_changed) == (1, 1)


async def elicitation(ann: Traveller) -> Any:
    placed = await ann.call("place_order", item="cup")
    told = await ann.call("cancel_order", order_id=placed["id"])
    assert ann.questions == ["Cancel 1 of cup?"], ann.questions
    return told


async def error(ann: Traveller) -> Any:
    try:
        await ann.session.get_prompt("nothing")
    except McpError as refused:
        return str(refused)
    raise AssertionError("a prompt that does not exist was given")


async def main(url: str) -> None:
    async with Traveller(url).connected() as ann, Traveller(url).connected() as bob:
        assert ann.id != bob.id
        for step, travellers in [
            (initialize, [ann]),
            (ping, [ann]),
            (tools, [ann]),
            (resources, [ann]),
            (prompts, [ann]),
            (progress_and_logs, [ann]),
            (level, [ann]),
            (subscription, [ann, bob]),
            (list_change, [ann, bob]),
            (elicitation, [ann]),
            (error, [ann]),
        ]:
            async with asyncio.timeout(STEP_SECONDS):
                print(json.dumps({"step": step.__name__, "got": await step(*travellers)}), flush=True)
    print(json.dumps({"instances": sorted(instances), "session": ann.id}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
