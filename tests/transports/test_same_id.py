"""Two requests with the same id at once: a balancer repeats a POST, or a client counts from 0 again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.support.client import Client
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless.handshake.addresses import EventId, inbox_of, request_name, same_id_as_other_type
from tmcp_serverless.handshake.inbox import Inbox

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler

pytestmark = pytest.mark.slow_store


class Runs:
    """What the runs of one tool are let do, by their names."""

    def __init__(self) -> None:
        self.go_on = {name: asyncio.Event() for name in "AB"}

    def server(self) -> MCPServer:
        server = MCPServer("runs", log_level="ERROR")

        @server.tool()
        async def run(ctx: Context, name: str) -> str:
            for number in range(2):
                await ctx.report_progress(number, None, name)
            await self.go_on[name].wait()
            await ctx.report_progress(2, None, name)
            return name

        return server


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Inbox]:
    """The inboxes that were opened."""
    inboxes: list[Inbox] = []
    open_ = Inbox.open

    async def noted(inbox: Inbox) -> bool:
        is_new = await open_(inbox)
        if inbox not in inboxes:
            inboxes.append(inbox)
        return is_new

    monkeypatch.setattr(Inbox, "open", noted)
    return inboxes


async def count(inboxes: list[Inbox], number: int) -> None:
    async def enough() -> bool:
        return len(inboxes) >= number

    await eventually(enough)


def call(name: str) -> dict[str, Any]:
    params = {"name": "run", "arguments": {"name": name}, "_meta": {"progressToken": "p"}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def said(messages: list[dict[str, Any]]) -> list[str]:
    """What a stream has said: the name of the run in each message of progress, and the answer's text."""
    return [
        message["params"]["message"] if "method" in message else message["result"]["content"][0]["text"]
        for message in messages
    ]


async def both_running(opened: list[Inbox], first: Exchange, second: Exchange) -> None:
    await first.__aenter__()
    await first.count(2)
    await count(opened, 1)
    await second.__aenter__()
    await second.count(2)
    await count(opened, 2)


async def test_the_first_to_end_does_not_stop_the_other(
    new_handler: NewHandler, runs: Runs, opened: list[Inbox]
) -> None:
    handlers = [new_handler(runs.server()) for _ in range(2)]
    client = await Client(*(handler.app for handler in handlers)).initialize()
    first, second = client.send("POST", call("A")), client.send("POST", call("B"))
    await both_running(opened, first, second)
    runs.go_on["A"].set()
    assert said((await first.whole()).messages) == ["A"] * 4
    streams = handlers[1].managers.streams
    assert await streams.has(inbox_of(client.session or "", request_name(7))), "the other listens still"
    runs.go_on["B"].set()
    assert said((await second.whole()).messages) == ["B"] * 4
    assert not await streams.has(inbox_of(client.session or "", request_name(7)))


async def test_the_one_that_began_last_can_be_cancelled_after_the_other_has_ended(
    new_handler: NewHandler, runs: Runs, opened: list[Inbox]
) -> None:
    client = await Client(*(new_handler(runs.server()).app for _ in range(2))).initialize()
    first, second = client.send("POST", call("A")), client.send("POST", call("B"))
    await both_running(opened, first, second)
    runs.go_on["A"].set()
    await first.whole()
    assert (await client.notify("notifications/cancelled", {"requestId": 7})).status == 202
    assert (await second.whole()).messages[-1]["error"]["code"] == -32800


async def test_each_stream_is_resumed_with_its_own_events(
    new_handler: NewHandler, runs: Runs, opened: list[Inbox]
) -> None:
    client = await Client(*(new_handler(runs.server()).app for _ in range(2))).initialize()
    first, second = client.send("POST", call("A")), client.send("POST", call("B"))
    await both_running(opened, first, second)
    for go_on in runs.go_on.values():
        go_on.set()
    for exchange in (first, second):
        await exchange.whole()
    assert not set(first.ids) & set(second.ids)
    for exchange, name in ((first, "A"), (second, "B")):
        async with client.listen(last_event_id=exchange.ids[0]) as resumed:
            assert said((await resumed.whole()).messages) == [name] * 4
        # The id that a connection begins with has the connection's name behind it.
        assert [id.partition("@")[0] for id in resumed.ids] == [id.partition("@")[0] for id in exchange.ids]


async def test_an_id_that_is_used_again_later_has_a_stream_of_its_own(
    new_handler: NewHandler, runs: Runs
) -> None:
    client = await Client(*(new_handler(runs.server()).app for _ in range(2))).initialize()
    exchanges: list[Exchange] = []
    for name in "AB":
        runs.go_on[name].set()
        exchanges.append(await client.post(call(name)))
    async with client.listen(last_event_id=exchanges[0].ids[0]) as resumed:
        assert said((await resumed.whole()).messages) == ["A"] * 4


async def test_in_one_batch_both_are_answered(new_handler: NewHandler, runs: Runs) -> None:
    client = await Client(new_handler(runs.server()).app, version="2025-03-26").initialize()
    async with client.send("POST", [call("A"), call("B")]) as exchange:
        runs.go_on["A"].set()
        await exchange.until(lambda: any("result" in message for message in exchange.messages))
        runs.go_on["B"].set()
        messages = (await exchange.whole()).messages
    assert sorted(said([message for message in messages if "result" in message])) == ["A", "B"]


@pytest.mark.parametrize(("id", "cancelled"), [(7, "7"), ("7", 7), (-1, "-1")])
async def test_a_request_is_cancelled_by_its_id_as_text_and_as_a_number(
    new_handler: NewHandler, runs: Runs, opened: list[Inbox], id: Any, cancelled: Any
) -> None:
    client = await Client(*(new_handler(runs.server()).app for _ in range(2))).initialize()
    async with client.send("POST", {**call("A"), "id": id}) as exchange:
        await count(opened, 1)
        assert (await client.notify("notifications/cancelled", {"requestId": cancelled})).status == 202
        answer = (await exchange.whole()).messages[-1]
        assert (answer["id"], answer["error"]["code"]) == (id, -32800)


@pytest.mark.parametrize("text", ["07", " 7", "7.0", "+7", "1_0", "\u0667", "x", "", "9" * 5_000])
def test_what_is_not_written_as_a_number_is_is_no_number(text: str) -> None:
    assert same_id_as_other_type(text) is None


async def test_a_number_and_its_text_at_once_are_two_requests_with_answers_of_their_own(
    new_handler: NewHandler,
) -> None:
    client = Client(*(new_handler(talkative_server(Stage())).app for _ in range(2)))
    await client.initialize(capabilities=CAPABILITIES)
    asking = {"name": "favourite", "arguments": {}}
    exchanges = {
        id: client.send("POST", {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": asking})
        for id in (7, "7")
    }
    async with exchanges[7], exchanges["7"]:
        questions = {id: (await exchange.count(1))[0] for id, exchange in exchanges.items()}
        for id, question in questions.items():
            result = {"action": "accept", "content": {"color": repr(id)}}
            answered = await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
            assert answered.status == 202
        for id, exchange in exchanges.items():
            answer = (await exchange.whole()).messages[-1]
            assert (answer["id"], answer["result"]["content"][0]["text"]) == (id, f"accept {id!r}")


def test_an_event_id_is_of_bounded_length() -> None:
    longest = EventId(request_name("x" * 10_000), "0" * 12, "9" * 18 + ".0", last=True)
    assert len(str(longest)) < 128
    assert EventId.parse(str(longest)) == longest
