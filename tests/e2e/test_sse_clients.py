"""The official clients over HTTP+SSE, every generation, through instances that come and go."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import mcp_types as types
import pytest
from mcp.client.sse import sse_client

from tmcp_serverless.cli.cluster import Cluster

from .generation1 import FOLDER, interpreter
from .node import FOLDER as TYPESCRIPT
from .node import packages
from .person import Person, text_of

if TYPE_CHECKING:
    from .conftest import Conversation

ORDERS = f"{Path(__file__).parents[2] / 'examples' / 'orders.py'}:handler"
MEMO = "memo://latest"
LIMIT_SECONDS = 120
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(scope="module")
def python() -> str:
    return interpreter()


@pytest.mark.parametrize("amnesia", [False, True], ids=["remembering", "amnesia"])
async def test_the_client_of_generation_1_gets_everything_from_three_instances(
    empty_database_url: str, python: str, *, amnesia: bool
) -> None:
    with Cluster(ORDERS, instances=3, database_url=empty_database_url, amnesia=amnesia) as cluster:
        taken = await script(python, "tour.py", f"{cluster.url}/sse")
        last = taken.pop()
        async with httpx.AsyncClient(base_url=cluster.url, timeout=LIMIT_SECONDS) as http:
            answer = await http.post(f"/message?session_id={last['session']}", json=PING)
    assert [line["step"] for line in taken] == [
        "initialize",
        "ping",
        "tools",
        "resources",
        "prompts",
        "progress_and_logs",
        "level",
        "subscription",
        "list_change",
        "elicitation",
        "error",
    ]
    assert taken[0]["got"] == "2025-11-25"
    assert len(last["instances"]) > 20 if amnesia else last["instances"] == ["1", "2", "3"]
    assert answer.status_code == 404, "the session went with its stream"


async def test_the_client_of_generation_2_is_asked_and_told_over_http_sse(conversation: Conversation) -> None:
    person, run = Person(), uuid4().hex
    async with person.over(sse_client(f"{conversation.cluster.url}/sse")) as client:
        told = text_of(await client.call_tool("everything_at_once")).splitlines()
        assert told[:4] == [*["accept: True, because"] * 3, "parrot: at once!"]
        work = {"run": run, "steps": 5}
        assert text_of(await client.call_tool("work", work, progress_callback=ignore)) == "5 steps"
        assert person.steps() == [1, 2, 3, 4, 5]
        await client.session.send_request(
            types.SubscribeRequest(params=types.SubscribeRequestParams(uri=MEMO)), types.EmptyResult
        )
        await client.call_tool("touch")
        await person.until(lambda: person.notifications("notifications/resources/list_changed"))
        assert person.notifications("notifications/resources/updated") == [{"uri": MEMO}]
    await conversation.until_written(run, "started", "finished")


async def test_what_the_client_of_generation_2_cancels_is_stopped(conversation: Conversation) -> None:
    person, run = Person(), uuid4().hex
    async with person.over(sse_client(f"{conversation.cluster.url}/sse")) as client:
        call = asyncio.create_task(client.call_tool("wait", {"run": run}))
        await conversation.until_written(run, "started")
        call.cancel()
        await conversation.until_written(run, "started", "cancelled")


async def test_a_client_that_leaves_stops_what_it_has_started(conversation: Conversation) -> None:
    person, run = Person(), uuid4().hex
    async with person.over(sse_client(f"{conversation.cluster.url}/sse")) as client:
        call = asyncio.create_task(client.call_tool("wait", {"run": run}))
        await conversation.until_written(run, "started")
        await asyncio.sleep(0.3)  # A request listens once it lasts.
    await asyncio.gather(call, return_exceptions=True)
    await conversation.until_written(run, "started", "cancelled")


@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_the_typescript_clients_are_asked_and_answered_over_http_sse(
    conversation: Conversation, generation: str
) -> None:
    [told] = await script(
        packages(), "sse.mjs", generation, f"{conversation.cluster.url}/sse", folder=TYPESCRIPT
    )
    assert told == ["3", "7", f"accept: True, {generation}"]


@pytest.mark.slow
async def test_a_killed_instance_takes_its_sessions_along_within_the_lease(empty_database_url: str) -> None:
    with Cluster(ORDERS, instances=3, database_url=empty_database_url) as cluster:
        async with (
            asyncio.timeout(LIMIT_SECONDS),
            httpx.AsyncClient(base_url=cluster.url, timeout=LIMIT_SECONDS) as http,
            http.stream("GET", "/sse", timeout=LIMIT_SECONDS) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: endpoint"
            endpoint = urljoin(cluster.url, (await anext(lines)).removeprefix("data: "))
            assert (await http.post(endpoint, json=PING)).status_code == 202
            cluster.kill(stream.headers["x-tmcp-instance"])
            killed, status = time.monotonic(), 202
            while status == 202:
                await asyncio.sleep(0.2)
                status = (await http.post(endpoint, json=PING)).status_code
    assert status == 404
    assert 5 < time.monotonic() - killed < 45


async def ignore(progress: float, total: float | None, message: str | None) -> None:
    """Take progress: with a callback the client asks for it."""
    del progress, total, message


async def script(*command: str, folder: Path = FOLDER) -> list[Any]:
    """Run a script, and return the lines of JSON that it prints."""
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert process.returncode == 0, lines
    return lines
