"""A tour of `examples/orders.py` with the official client: every feature once.

Two clients, Ann and Bob, each have a session. Any instance may serve an action of one client. The
notification to the other client arrives on a stream that yet another instance holds. Cy, a client of
2026-07-28, has no session.
"""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import mcp_types as types

from examples.guide import Guide
from examples.modern_tour import ModernPassage
from examples.report import TourReport, expect
from examples.traveller import Traveller

__all__ = ["tour"]

OPEN_ORDERS = "orders://open"
LARGE_QUANTITY = 250
TIMES_ASKED = 3
TRIES = 8
"""Attempts of a call until it lands on an instance that does not hold the stream."""


async def tour(
    url: str,
    *,
    narrate: Callable[[str], None] = lambda _line: None,
    streams: bool = True,
    unsubscribe: bool = True,
    kill: Callable[[str], Awaitable[None]] | None = None,
    limit_seconds: float = 10,
) -> TourReport:
    """Take the tour, tell each step as it is done, and return the report.

    Args:
        url: The MCP endpoint.
        narrate: Gets one line for each step.
        streams: True to take the steps with a tool that asks while it runs, or a client that listens. They
            cannot be taken if answers are delivered whole, as on a buffered function.
        unsubscribe: True if the server's session managers can take a subscription back.
        kill: Kills the instance of that name and returns when it is dead. Without it that step is left out.
        limit_seconds: The time limit of a step.

    Raises:
        TourError: A step failed, or took longer than the limit.
    """
    async with Guide(url, narrate=narrate, limit_seconds=limit_seconds) as guide:
        await _Tour(guide, streams=streams, unsubscribe=unsubscribe, kill=kill).take()
    return guide.report


class _Tour:
    """The steps, in order. Each method returns its outcome, in short."""

    ann: Traveller
    bob: Traveller

    def __init__(
        self,
        guide: Guide,
        *,
        streams: bool,
        unsubscribe: bool,
        kill: Callable[[str], Awaitable[None]] | None,
    ) -> None:
        self._guide = guide
        self._streams = streams
        self._can_unsubscribe = unsubscribe
        self._kill = kill

    async def take(self) -> None:
        step = self._guide.step
        await step("Ann initializes", self._ann_arrives(), expected="a session")
        await step("Ann's stream opens", self._stream_opens(), expected="200 and an event stream on GET")
        await step("ping", self._ping(), expected="an empty result")
        await step("tools", self._tools(), expected="the tools of the orders server")
        await step("place_order", self._place_orders(), expected="the order, as structured content")
        await step("resources", self._resources(), expected="orders://open, with the new orders")
        await step("templates", self._templates(), expected="orders://{order_id}, and one order read by it")
        await step("prompts", self._prompts(), expected="the dispatch note")
        await step("completion", self._completion(), expected="the order's id")
        await step("ship_orders", self._ship(), expected="progress to the end, logs of every level")
        await step("setLevel warning", self._set_level(), expected="the warning, and no lower level")
        await step("Bob initializes", self._bob_arrives(), expected="another session")
        await step("subscribe", self._subscribe(), expected="Bob's change told on Ann's stream")
        if self._kill is not None:
            await step("an instance dies", self._death(self._kill), expected="Bob's change told all the same")
        if self._can_unsubscribe:
            await step("unsubscribe", self._unsubscribe(), expected="only what Ann is still subscribed to")
        await step("announce_sale", self._announce(), expected="tools/list_changed on both streams")
        await step("Ann cannot be asked", self._cannot_cancel(), expected="a tool error that says why")
        if self._streams:
            await step("Bob is asked", self._cancels(), expected="a question; his consent cancels the order")
            await ModernPassage(self._guide, self.bob).take()
        await step("Bob and Ann leave", self._leave(), expected="DELETE answered with 200 or 204")
        await step("the session is gone", self._gone(), expected="404, whatever instance is asked")

    async def _ann_arrives(self) -> str:
        self.ann = await self._guide.welcome("Ann")
        client = self.ann.client
        expect(self.ann.session_id, "no Mcp-Session-Id header")
        server, capabilities = client.server_info, client.server_capabilities
        expect(server is not None and server.name == "orders", server)
        expect(capabilities.resources is not None and capabilities.resources.subscribe, capabilities)
        expect(capabilities.logging is not None, capabilities)
        return f"{server.name if server else ''}, protocol {client.protocol_version}"

    async def _stream_opens(self) -> str:
        await self.ann.until(lambda: self.ann.last("GET"))
        got = self.ann.last("GET")
        expect(got is not None and got.status == HTTPStatus.OK, got)
        return "open"

    async def _ping(self) -> str:
        await self.ann.ask(types.PingRequest())
        return "{}"

    async def _tools(self) -> str:
        tools = {tool.name: tool for tool in (await self.ann.client.list_tools()).tools}
        wanted = {"place_order", "list_orders", "ship_orders", "cancel_order", "announce_sale"}
        expect(tools.keys() >= wanted, sorted(tools))
        expect(tools["place_order"].output_schema, tools["place_order"])
        return ", ".join(sorted(tools))

    async def _place_orders(self) -> str:
        small = await self.ann.call("place_order", item="teapot", quantity=3)
        large = await self.ann.call("place_order", item="saucer", quantity=LARGE_QUANTITY)
        expect((small["item"], small["quantity"], small["status"]) == ("teapot", 3, "open"), small)
        found = [order["id"] for order in await self.ann.call("list_orders")]
        expect({small["id"], large["id"]} <= {*found}, found)
        self._small, self._large = small["id"], large["id"]
        return json.dumps(small)

    async def _resources(self) -> str:
        listed = [resource.uri for resource in (await self.ann.client.list_resources()).resources]
        expect(OPEN_ORDERS in listed, listed)
        waiting = [order["id"] for order in await self._read(OPEN_ORDERS)]
        expect({self._small, self._large} <= {*waiting}, waiting)
        return f"{OPEN_ORDERS} has orders {', '.join(map(str, waiting))}"

    async def _templates(self) -> str:
        templates = (await self.ann.client.list_resource_templates()).resource_templates
        expect([one.uri_template for one in templates] == ["orders://{order_id}"], templates)
        order = await self._read(f"orders://{self._small}")
        expect(order["item"] == "teapot", order)
        return f"orders://{self._small} is {order['quantity']} of {order['item']}"

    async def _read(self, uri: str) -> Any:
        [content] = (await self.ann.client.read_resource(uri)).contents
        expect(isinstance(content, types.TextResourceContents), content)
        return json.loads(content.text) if isinstance(content, types.TextResourceContents) else None

    async def _prompts(self) -> str:
        listed = [prompt.name for prompt in (await self.ann.client.list_prompts()).prompts]
        expect(listed == ["dispatch_note"], listed)
        [message] = (
            await self.ann.client.get_prompt("dispatch_note", {"order_id": str(self._small)})
        ).messages
        text = message.content.text if isinstance(message.content, types.TextContent) else ""
        expect("teapot" in text, message)
        return f"{text[:40]}…"

    async def _completion(self) -> str:
        reference = types.PromptReference(name="dispatch_note")
        argument = {"name": "order_id", "value": str(self._small)}
        values = (await self.ann.client.complete(reference, argument)).completion.values
        expect(str(self._small) in values, values)
        return ", ".join(values)

    async def _ship(self) -> str:
        await self._ship_and_wait(self.ann)
        levels = [level for level, _ in self.ann.logs]
        expect({*levels} >= {"debug", "info", "warning"}, self.ann.logs)
        expect(levels.count("info") == len(self.ann.progress), (self.ann.logs, self.ann.progress))
        self._guide.report.delivered += len(levels) + len(self.ann.progress)
        return f"{len(self.ann.progress)} progress notifications, {len(levels)} log messages"

    async def _ship_and_wait(self, traveller: Traveller) -> list[int]:
        """Ship the open orders (there are some), and wait until the progress is complete."""
        traveller.logs.clear()
        traveller.progress.clear()
        shipped = await traveller.call("ship_orders")
        await traveller.until(
            lambda: traveller.progress and traveller.progress[-1][0] == traveller.progress[-1][1]
        )
        expect(len(traveller.progress) == len(shipped), (traveller.progress, shipped))
        return [order["id"] for order in shipped]

    async def _set_level(self) -> str:
        await self.ann.ask(types.SetLevelRequest(params=types.SetLevelRequestParams(level="warning")))
        await self.ann.call("place_order", item="spoon")
        await self.ann.call("place_order", item="saucer", quantity=LARGE_QUANTITY)
        await self._ship_and_wait(self.ann)
        expect([level for level, _ in self.ann.logs] == ["warning"], self.ann.logs)
        self._guide.report.delivered += 1 + len(self.ann.progress)
        return f"{self.ann.logs[0][1]!r} alone, debug and info are dropped"

    async def _bob_arrives(self) -> str:
        yes = types.ElicitResult(action="accept", content={"sure": True})
        self.bob = await self._guide.welcome("Bob", elicitation=yes if self._streams else None)
        expect(self.bob.session_id not in {"", self.ann.session_id}, self.bob.session_id)
        await self.bob.until(lambda: self.bob.last("GET"))
        return "a session of his own"

    async def _subscribe(self) -> str:
        """Have Bob's orders reach Ann, at least one of them from an instance that her stream is not on."""
        await self.ann.ask(types.SubscribeRequest(params=types.SubscribeRequestParams(uri=OPEN_ORDERS)))
        for told in range(1, TRIES + 1):
            self._last = (await self.bob.call("place_order", item="kettle"))["id"]
            await self.ann.until(lambda told=told: len(self.ann.updates) >= told)
            expect(self.ann.updates == [OPEN_ORDERS] * told, self.ann.updates)
            self._guide.report.delivered += 1
            changed, held = self.bob.last("tools/call"), self.ann.last("GET")
            by = changed.instance if changed else None, held.instance if held else None
            if by[0] is None:
                break
            if by[0] != by[1]:
                return f"{OPEN_ORDERS} changed by {by[0]}, told by {by[1]}"
        expect(len(self._guide.report.instances) <= 1, f"{TRIES} calls that all went where the stream is")
        return f"{OPEN_ORDERS} changed and told"

    async def _death(self, kill: Callable[[str], Awaitable[None]]) -> str:
        """Kill the instance with Ann's stream. Her client opens another, and gets the missed notification."""
        held = self.ann.last("GET")
        expect(held is not None and held.instance is not None, held)
        killed = (held.instance if held else None) or ""
        self.ann.updates.clear()
        await kill(killed)
        await self.bob.call("place_order", item="fork")
        await self.ann.until(lambda: self.ann.updates)
        expect(self.ann.updates == [OPEN_ORDERS], self.ann.updates)
        self._guide.report.delivered += 1
        told = self.ann.last("GET")
        return f"{killed} was killed, {OPEN_ORDERS} changed, told by {told.instance if told else None}"

    async def _unsubscribe(self) -> str:
        """Unsubscribe Ann from the list. Messages to a session come in order: the list's would come first."""
        uri = f"orders://{self._last}"
        await self.ann.ask(types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri)))
        await self.ann.ask(types.UnsubscribeRequest(params=types.UnsubscribeRequestParams(uri=OPEN_ORDERS)))
        self.ann.updates.clear()
        await self._ship_and_wait(self.bob)
        await self.ann.until(lambda: self.ann.updates)
        expect(self.ann.updates == [uri], self.ann.updates)
        self._guide.report.delivered += 1 + len(self.bob.progress)
        return f"{uri} is told, {OPEN_ORDERS} is not"

    async def _announce(self) -> str:
        await self.bob.call("announce_sale")
        for traveller in (self.ann, self.bob):
            await traveller.until(lambda traveller=traveller: traveller.tools_changed)
            expect(traveller.tools_changed == 1, traveller.tools_changed)
        self._guide.report.delivered += 2
        return "told to Ann and Bob"

    async def _cannot_cancel(self) -> str:
        order = await self.ann.call("place_order", item="cup")
        self._cup = order["id"]
        result = await self.ann.client.call_tool("cancel_order", {"order_id": self._cup})
        text = result.content[0].text if isinstance(result.content[0], types.TextContent) else ""
        expect(result.is_error and "cannot ask" in text, result)
        return text.removeprefix("Error executing tool cancel_order: ")

    async def _cancels(self) -> str:
        """Have Bob cancel an order. The answer is a request of its own, and reaches the tool elsewhere."""
        told = await self.bob.call("cancel_order", order_id=self._cup)
        expect(self.bob.questions == ["Cancel 1 of cup?"], self.bob.questions)
        order = await self._read(f"orders://{self._cup}")
        expect((told, order["status"]) == (f"Order {self._cup} is cancelled.", "cancelled"), (told, order))
        answered = self.bob.last("answer")
        asked = self.bob.last("tools/call")
        expect(answered is not None and answered.status == HTTPStatus.ACCEPTED, answered)
        by = asked.instance if asked else None, answered.instance if answered else None
        return f"{self.bob.questions[0]} {told}" + (
            f" Asked by {by[0]}, answered to {by[1]}" if all(by) else ""
        )

    async def _leave(self) -> str:
        for traveller in (self.bob, self.ann):
            await traveller.leave()
            deleted = traveller.last("DELETE")
            expect(deleted is not None and deleted.status in {200, 204}, deleted)
        return "sessions deleted"

    async def _gone(self) -> str:
        """Ask more than one instance: the session must be gone from all of them."""
        for _ in range(TIMES_ASKED):
            status = await self._guide.post(self.ann, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            expect(status == HTTPStatus.NOT_FOUND, status)
        return "404"
