"""The managers in memory forget what nobody will ask for any more, as those over Postgres do."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.support.client import Client
from tmcp_serverless import (
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
    SessionRecord,
    create_handler,
)
from tmcp_serverless.sessions import memory_info, memory_streams
from tmcp_serverless.testing.contracts import RecordingController

RECORD = SessionRecord(
    protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still until a test moves it."""
    clock = Clock()
    monkeypatch.setattr(memory_streams, "time", clock)
    monkeypatch.setattr(memory_info, "time", clock)
    return clock


def addresses(streams: InMemoryStreamSessionManager) -> set[str]:
    return set(streams._mailboxes)  # pyright: ignore[reportPrivateUsage]


def kept(streams: InMemoryStreamSessionManager) -> list[str]:
    boxes = streams._mailboxes.values()  # pyright: ignore[reportPrivateUsage]
    return [message.data for box in boxes for message in box.messages]


async def test_what_sessions_leave_behind_goes_by_and_by(clock: Clock) -> None:
    server = MCPServer("x", log_level="ERROR")

    @server.tool()
    async def talk(ctx: Context) -> str:
        await ctx.report_progress(1)
        return "x" * 10_000

    handler = create_handler(server, session_idle_seconds=1_000)
    streams = handler.managers.streams
    assert isinstance(streams, InMemoryStreamSessionManager)
    client = Client(handler.app)
    for _ in range(5):
        client.session = None
        await client.initialize()
        for id in range(5):
            call = {"name": "talk", "arguments": {}, "_meta": {"progressToken": "p"}}
            await client.post({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": call})
            await client.notify("notifications/cancelled", {"requestId": id})
    assert await handler.sweep() == 0
    clock.now += 700
    await handler.sweep()
    assert kept(streams) == []
    assert not [address for address in addresses(streams) if "/" in address[1:]]
    assert len(addresses(streams) - {"/broadcast", "/events"}) == 5
    assert await client.result("ping") == {}
    clock.now += 700
    await handler.sweep()
    assert addresses(streams) - {"/broadcast", "/events"} == {client.session}
    clock.now += 1_100
    await handler.sweep()
    assert not addresses(streams) - {"/broadcast", "/events"}
    await handler.aclose()


async def test_messages_are_swept_when_they_are_old_and_a_stream_hears_how_many(clock: Clock) -> None:
    streams = InMemoryStreamSessionManager(retention_seconds=60)
    await streams.prepare("id")
    for text in ("a", "b"):
        await streams.send(["id"], text)
    clock.now += 50
    await streams.send(["id"], "c")
    clock.now += 20
    assert await streams.sweep() == 2
    assert kept(streams) == ["c"]
    controller = RecordingController()
    await streams.create("id", controller)
    await controller.until(lambda: controller.data == ["c"])
    assert controller.missing == 2
    await streams.aclose()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"retention_rows": 3}, ["2", "3", "4"]),
        ({"retention_bytes": 2}, ["3", "4"]),
        ({"retention_bytes": 0}, ["4"]),
        ({}, ["0", "1", "2", "3", "4"]),
    ],
)
async def test_a_mailbox_holds_so_many_rows_and_bytes(options: dict[str, Any], left: list[str]) -> None:
    streams = InMemoryStreamSessionManager(**options)
    for number in range(5):
        await streams.send(["id"], str(number))
    assert kept(streams) == left


async def test_what_a_mailbox_holds_is_counted_in_bytes() -> None:
    streams = InMemoryStreamSessionManager(retention_bytes=4)
    for text in ("é", "🦆", "a", "é", "b"):
        await streams.send(["id"], text)
    assert kept(streams) == ["a", "é", "b"]


async def test_a_session_that_has_expired_is_not_renewed(clock: Clock) -> None:
    info = InMemoryInfoSessionManager(idle_seconds=60)
    await info.initialize("id", RECORD)
    clock.now += 50
    assert await info.initialize("id", RECORD, only_if_exists=True)
    clock.now += 50
    assert await info.initialize("id", RECORD, only_if_exists=True)
    clock.now += 61
    assert not await info.initialize("id", RECORD, only_if_exists=True)


async def test_the_place_of_a_session_is_kept_for_longer_than_its_messages(clock: Clock) -> None:
    streams = InMemoryStreamSessionManager(retention_seconds=60, unused_seconds=600)
    await streams.prepare("id")
    await streams.send(["id", "id/inside"], "old")
    clock.now += 100
    assert await streams.sweep() == 3
    assert addresses(streams) == {"id", "/broadcast"}
    await streams.send(None, "for everybody")
    controller = RecordingController()
    await streams.create("id", controller)
    await controller.until(lambda: controller.data == ["for everybody"])
    clock.now += 700
    await streams.sweep()
    assert addresses(streams) == {"id", "/broadcast"}, "a stream is open"
    await streams.release("id", controller)
    await streams.sweep()
    assert addresses(streams) == {"/broadcast"}


async def test_the_numbers_of_a_mailbox_that_was_swept_go_on(clock: Clock) -> None:
    streams = InMemoryStreamSessionManager(retention_seconds=60)
    first = await streams.append("id/inside", "a")
    second = await streams.append("id/inside", "b", after=first)
    clock.now += 100
    await streams.sweep()
    assert not addresses(streams)
    third = await streams.append("id/inside", "c", after=second)
    assert (first, second, third) == ("1.0", "2.0", "3.0")
    controller = RecordingController()
    await streams.create("id/inside", controller, after=second)
    await controller.until(lambda: controller.data == ["c"])
    await streams.aclose()


@pytest.mark.parametrize("sweeps", [[100], [1_000], [10] * 100])
async def test_a_small_sweep_looks_at_a_few_and_in_the_end_at_all(clock: Clock, sweeps: list[int]) -> None:
    streams = InMemoryStreamSessionManager(unused_seconds=60)
    for number in range(500):
        await streams.prepare(f"young{number}")
    clock.now += 100
    for number in range(500):
        await streams.prepare(f"old{number}")
        await streams.prepare(f"young{number}")
    clock.now -= 100
    for number in range(500):
        await streams.prepare(f"old{number}")
    clock.now += 100
    removed = [await streams.sweep(limit=limit) for limit in sweeps]
    assert all(gone <= limit for gone, limit in zip(removed, sweeps, strict=True))
    assert sum(removed) == min(500, sum(sweeps))
    assert not sum(sweeps) >= 500 or len(addresses(streams)) == 501


async def test_what_an_expired_session_has_open_is_deleted_with_it(clock: Clock) -> None:
    streams = InMemoryStreamSessionManager()
    managers = SessionManagers(
        streams=streams, info=InMemoryInfoSessionManager(idle_seconds=60, streams=streams)
    )
    controllers: dict[str, RecordingController] = {}
    for id in ("gone", "used"):
        await managers.info.initialize(id, RECORD)
        await streams.create(id, controllers.setdefault(id, RecordingController()))
        await streams.send([f"{id}/inside"], "x")
    clock.now += 50
    await managers.info.load("used")
    clock.now += 20
    assert await managers.info.sweep() == 1
    assert addresses(streams) == {"used", "used/inside", "/broadcast"}
    await controllers["gone"].until(lambda: controllers["gone"].closed is not None)
    assert controllers["used"].closed is None
    await managers.aclose()


async def test_what_is_written_after_a_session_was_deleted_leaves_nothing() -> None:
    info = InMemoryInfoSessionManager()
    await info.initialize("id", RECORD)
    await info.delete("id")
    await info.set_client_info("id", {"name": "late"})
    await info.set_client_capabilities("id", {"roots": {}})
    await info.set_log_level("id", "debug")
    await info.add_subscription("id", "x://y")
    await info.update("id", initialized=True)
    assert await info.get_client_info("id") is None
    assert await info.get_client_capabilities("id") is None
    assert await info.get_log_level("id") is None
    assert await info.get_subscriptions("x://y") == set()
    assert await info.load("id") is None
