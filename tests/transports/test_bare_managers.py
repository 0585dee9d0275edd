"""Managers with TMCP's methods alone lose no message, and leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bare_managers import BareInfo, BareStreams
from tests.support.client import Client
from tests.support.modern import ModernClient, methods
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless import CloseReason, Handler, SessionManagers, create_handler
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LATEST = "2025-11-25"


@pytest.fixture
def streams() -> BareStreams:
    return BareStreams()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def handler(streams: BareStreams, stage: Stage) -> AsyncGenerator[Handler]:
    managers = SessionManagers(streams=streams, info=BareInfo())
    async with create_handler(talkative_server(stage), session_manager=managers) as handler:
        yield handler


def said(message: dict[str, Any]) -> Any:
    return message.get("params", {}).get("data") or message["method"]


def news(number: int) -> dict[str, Any]:
    return {"method": "notifications/message", "params": {"level": "info", "data": f"news {number}"}}


async def test_a_client_gets_what_was_sent_to_it_and_to_everybody_before_its_first_stream(
    handler: Handler,
) -> None:
    client = await Client(handler.app).initialize()
    await handler.notifier.tools_changed()
    await handler.notifier.send([client.session or ""], news(1))
    async with client.listen() as stream:
        told = [said(each) for each in await stream.count(2)]
    assert told == ["notifications/tools/list_changed", "news 1"]


@pytest.mark.parametrize("version", ["2025-06-18", LATEST])
async def test_a_client_gets_what_was_sent_to_it_and_to_everybody_while_it_was_away(
    handler: Handler, version: str
) -> None:
    client = await Client(handler.app, version=version).initialize()
    for number in range(3):
        async with client.listen() as stream:
            await stream.begun()
            await handler.notifier.send([client.session or ""], news(number))
            await stream.until(
                lambda number=number, stream=stream: f"news {number}" in map(said, stream.messages)
            )
            stream.leave()
            await handler.notifier.send(None, news(10 + number))
            await handler.notifier.send([client.session or ""], news(20 + number))
            await stream.whole()
        await handler.notifier.send(None, news(30 + number))
        async with client.listen() as stream:
            wanted = [f"news {each + number}" for each in (10, 20, 30)]
            heard = [said(each) for each in await stream.count(3)]
        assert heard == wanted


async def test_a_client_that_left_has_no_live_stream(handler: Handler, streams: BareStreams) -> None:
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        assert await streams.has(client.session or "")
        stream.leave()
        await stream.whole()

    async def is_free() -> bool:
        return not await streams.has(client.session or "")

    await eventually(is_free)


async def test_a_tool_asks_its_client_and_leaves_no_inbox(handler: Handler, streams: BareStreams) -> None:
    client = await Client(handler.app).initialize(capabilities=CAPABILITIES)
    request = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "favourite", "arguments": {}},
    }
    async with client.send("POST", request) as exchange:
        [question] = await exchange.count(1)
        answer = {"action": "accept", "content": {"color": "red"}}
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": answer})
        assert (await exchange.whole()).messages[-1]["result"]["content"][0]["text"] == "accept red"
    assert exchange.ids == [], "a stream that cannot be resumed gives no ids"
    assert list(streams.mailboxes) == [client.session]


async def test_a_session_that_is_deleted_leaves_nothing(handler: Handler, streams: BareStreams) -> None:
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        assert (await client.delete()).status in (200, 204)
        await stream.whole()
    assert list(streams.mailboxes) == []


async def test_a_released_stream_that_another_controller_has_taken_stays_with_it(
    streams: BareStreams,
) -> None:
    first, second = RecordingController(), RecordingController()
    await streams.create("s", first)
    await streams.create("s", second)
    await streams.release("s", first)
    await streams.release("s")
    await streams.send(["s"], "message")
    assert [text for text in await second.count(2) if text] == ["message"]
    assert first.closed is CloseReason.SUPERSEDED


async def test_a_listen_stream_hears_tools_and_the_notifier(handler: Handler) -> None:
    client = ModernClient(handler.app)
    async with client.listen(toolsListChanged=True, resourceSubscriptions=["note://one"]) as stream:
        await stream.count(1)
        await handler.notifier.tools_changed()
        await handler.notifier.resource_updated("note://one")
        await stream.count(3)
    assert methods(stream)[1:] == ["notifications/tools/list_changed", "notifications/resources/updated"]
