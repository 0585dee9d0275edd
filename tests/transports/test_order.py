"""What one process sends arrives in the order of the calls, also when these are not awaited one by one."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.slow_store import Slowness, slow_managers
from tests.support.sse_client import SseClient
from tmcp_serverless import PostgresStreamSessionManager, create_handler
from tmcp_serverless.handshake.post_response import PostResponse
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

pytestmark = pytest.mark.slow_store

Ctx = Context[Any, Any]


def hurried_server() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("hurried")
    kept: set[asyncio.Task[Any]] = set()

    @server.tool()
    async def updates(count: int, ctx: Ctx) -> str:
        """Say what belongs to no request, from tasks that run side by side."""
        await asyncio.gather(
            *(ctx.session.send_resource_updated(f"note://{number}") for number in range(count))
        )
        return "done"

    @server.tool()
    async def mixed(count: int, ctx: Ctx) -> str:
        """Speak in turns for the request and for the session, and wait for none of it."""
        for number in range(count):
            kept.add(asyncio.create_task(ctx.report_progress(2 * number)))
            kept.add(asyncio.create_task(ctx.session.send_resource_updated(f"note://{2 * number + 1}")))
        await asyncio.sleep(0)
        return "done"

    @server.tool()
    async def publish(count: int, ctx: Ctx) -> str:
        await asyncio.gather(*(ctx.notify_resource_updated(f"note://{number}") for number in range(count)))
        return "done"

    return server


def uris(messages: list[dict[str, Any]]) -> list[int]:
    updated = [each for each in messages if each.get("method") == "notifications/resources/updated"]
    return [int(each["params"]["uri"].removeprefix("note://")) for each in updated]


async def test_a_sessions_messages_of_tasks_side_by_side(new_handler: NewHandler) -> None:
    client = await Client(*(new_handler(hurried_server()).app for _ in range(2))).initialize()
    async with client.listen() as stream:
        await stream.begun()
        assert await client.call("updates", count=30) == "done"
        assert uris(await stream.count(30)) == list(range(30))


async def test_events_for_listen_streams(new_handler: NewHandler) -> None:
    client = ModernClient(*(new_handler(hurried_server()).app for _ in range(2)))
    wanted = [f"note://{number}" for number in range(20)]
    async with client.listen(resourceSubscriptions=wanted) as stream:
        await stream.count(1)
        await client.call("publish", count=20)
        assert uris(await stream.count(21)) == list(range(20))


async def test_what_a_notifier_is_told_side_by_side(new_handler: NewHandler) -> None:
    handler = new_handler(hurried_server())
    client = await Client(handler.app).initialize()
    for number in range(0, 20, 2):
        await client.result("resources/subscribe", {"uri": f"note://{number}"})
    session, notifier = client.session or "", handler.notifier

    async def tell(number: int) -> None:
        if number % 2:
            uri = f"note://{number}"
            updated = {"method": "notifications/resources/updated", "params": {"uri": uri}}
            await notifier.send([session], updated)
        else:
            await notifier.resource_updated(f"note://{number}")

    async with client.listen() as stream:
        await stream.begun()
        await asyncio.gather(*(tell(number) for number in range(20)))
        assert uris(await stream.count(20)) == list(range(20))


async def test_broadcasts_side_by_side(new_handler: NewHandler) -> None:
    handler = new_handler(hurried_server())
    client = await Client(handler.app).initialize()
    tell = handler.notifier.send
    async with client.listen() as stream:
        await stream.begun()
        told = ({"method": "notifications/message", "params": {"data": number}} for number in range(20))
        await asyncio.gather(*(tell(None, each) for each in told))
        assert [each["params"]["data"] for each in await stream.count(20)] == list(range(20))


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_one_stream_of_http_sse_also_where_the_store_fails(seed: int) -> None:
    slowness = Slowness(seed, failing=frozenset({"append"}), every=12)
    async with create_handler(hurried_server(), session_manager=slow_managers(slowness)) as handler:
        while "append" not in slowness.failures:
            async with SseClient(handler.app) as client:
                # The seed may fail what is answered with 503; only what the tool says is looked at.
                slowness.every = 1_000_000
                await client.initialize()
                slowness.every = 6
                async with client.calling("mixed", count=4):
                    await client.answered(7)
                said = [
                    int(each["params"]["progress"])
                    if each.get("method") == "notifications/progress"
                    else next(iter(uris([each])), None)
                    for each in client.stream.messages
                    if each.get("id") == 7 or "method" in each
                ]
                lost = [number for number in range(1, 8, 2) if number not in said]
                # What the session is told is not tried again: it may be lost, and never comes late.
                assert said == [*(number for number in range(8) if number not in lost), None]


async def test_sends_of_one_manager_side_by_side(database_url: str) -> None:
    controller = RecordingController()
    async with PostgresStreamSessionManager(database_url) as manager:
        await manager.create("id", controller)
        await asyncio.gather(*(manager.send(["id"], str(number)) for number in range(60)))
        assert await controller.count(60) == [str(number) for number in range(60)]


class Journal:
    """A journal whose first `prime` takes until it is cut short."""

    def __init__(self, primed: list[bool]) -> None:
        self._primed = primed
        self.resumable = False

    async def prime(self) -> bytes:
        self._primed.append(True)
        if len(self._primed) == 1:
            await asyncio.Event().wait()
        self.resumable = True
        return b"id: 1\r\n\r\n"

    async def record(self, data: bytes, *, last: bool) -> bytes:
        del last
        return b"data: " + data + b"\r\n\r\n"

    async def settle(self) -> None:
        """Have nothing to do."""


async def test_a_stream_whose_beginning_was_cut_short_begins_with_the_next_message() -> None:
    sent: list[dict[str, Any]] = []
    primed: list[bool] = []

    async def send(message: Any) -> None:
        sent.append(message)

    response = PostResponse(send, headers=[], batch=False, new_journal=lambda: Journal(primed))  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await response.emit({"n": 1})
    await response.emit({"n": 2})
    await response.answer(b'{"n":3}')
    await response.finish()
    assert [message["type"] for message in sent].count("http.response.start") == 1
    body = b"".join(message.get("body", b"") for message in sent)
    assert body == b'id: 1\r\n\r\ndata: {"n":1}\r\n\r\ndata: {"n":2}\r\n\r\ndata: {"n":3}\r\n\r\n'


@pytest.mark.parametrize("seed", range(5))
async def test_answers_of_a_batch_survive_messages_that_are_cut_short(seed: int) -> None:
    chance, sent = random.Random(seed), list[bytes]()  # noqa: S311 - no secret

    async def send(message: Any) -> None:
        await asyncio.sleep(chance.uniform(0, 0.004))
        sent.append(message.get("body", b""))

    response = PostResponse(send, headers=[], batch=True, new_journal=None)
    await response.answer(b'{"id":0}')

    async def speak() -> None:
        try:
            async with asyncio.timeout(0.002):
                await response.emit({"method": "x"})
        except TimeoutError:
            pass

    async with asyncio.TaskGroup() as group:
        for number in range(1, 6):
            group.create_task(speak())
            group.create_task(response.answer(json.dumps({"id": number}).encode()))
    await response.finish()
    body = b"".join(sent).replace(b" ", b"")
    assert [number for number in range(6) if b'{"id":%d}' % number in body] == list(range(6))
