"""MCP sessions on the loop that streams, in this process."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts.platform import Platform, framed, running
from tests.hosts.recorded import HEADERS, SCHEDULE, STREAMING, WHOLE, function_url, http_api
from tests.support.servers import small_server
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


class Session:
    """An MCP session, by invocations."""

    def __init__(self, platform: Platform, event: Callable[..., dict[str, Any]] = function_url) -> None:
        self._platform = platform
        self._event = event
        self.headers = dict(HEADERS)

    async def ask(self, method: str, params: Any) -> Any:
        """Return the result of a request."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        invocation = await self._platform.invoke(self._event("POST", self.headers, json.dumps(message)))
        if invocation.streamed:
            head, body = await framed(invocation)
        else:
            head = json.loads(await invocation.whole())
            body = base64.b64decode(head["body"]) if head["isBase64Encoded"] else head["body"]
        assert head["statusCode"] == 200
        found = head.get("headers") or {name: value[0] for name, value in head["multiValueHeaders"].items()}
        self.headers |= {name: value for name, value in found.items() if name == "mcp-session-id"}
        return json.loads(body)["result"]

    async def initialize(self) -> None:
        client = {"name": "c", "version": "1"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        await self.ask("initialize", hello)
        assert "mcp-session-id" in self.headers

    async def add(self, a: int, b: int) -> str:
        result = await self.ask("tools/call", {"name": "add", "arguments": {"a": a, "b": b}})
        return result["content"][0]["text"]


@pytest.mark.parametrize("event", [*STREAMING, *WHOLE])
async def test_a_session_lives_through_invocations_behind_each_front_door(
    event: Callable[..., dict[str, Any]], database_url: str
) -> None:
    async with running(create_handler(small_server(), database_url=database_url)) as platform:
        session = Session(platform, event)
        await session.initialize()
        assert await session.add(1, 2) == "3"


async def test_row_31_a_thousand_invocations_in_one_streaming_sandbox(database_url: str) -> None:
    async with running(create_handler(small_server(), database_url=database_url)) as platform:
        session = Session(platform)
        await session.initialize()
        for number in range(1_000):
            assert await session.add(number, 1) == str(number + 1)


async def test_row_32_a_get_that_streams_ends_before_the_invocation_is_killed(database_url: str) -> None:
    async with running(create_handler(small_server(), database_url=database_url)) as platform:
        session = Session(platform)
        await session.initialize()
        started = time.monotonic()
        invocation = await platform.invoke(function_url("GET", session.headers), seconds=5)
        assert time.monotonic() - started < 5, "two seconds are left for whatever has to be closed"
        head, body = await framed(invocation)
        assert head["headers"]["content-type"] == "text/event-stream"
        assert invocation.failure is None
        assert b"retry: " in body


async def test_row_32_a_get_that_streams_can_be_refused(database_url: str) -> None:
    handler = create_handler(small_server(), database_url=database_url, disable_sse=True)
    async with running(handler) as platform:
        session = Session(platform)
        await session.initialize()
        assert (await framed(await platform.invoke(function_url("GET", session.headers))))[0][
            "statusCode"
        ] == 405


async def test_without_a_function_an_event_is_answered_with_null(database_url: str) -> None:
    handler = create_handler(small_server(), database_url=database_url)
    async with running(handler) as platform:
        assert await (await platform.invoke(SCHEDULE)).whole() == b"null"

        @handler.on_event
        async def sweep(event: Any, context: Any) -> list[Any]:
            return [event["source"], context.aws_request_id]

        assert sweep
        invocation = await platform.invoke(SCHEDULE)
        assert json.loads(await invocation.whole()) == ["aws.events", invocation.id]


async def test_an_http_apis_get_is_bounded_though_the_loop_could_stream(database_url: str) -> None:
    handler = create_handler(small_server(), database_url=database_url, buffered_wait_seconds=0)
    async with running(handler) as platform:
        answer = json.loads(await (await platform.invoke(http_api("GET"))).whole())
        assert answer["statusCode"] == 405
