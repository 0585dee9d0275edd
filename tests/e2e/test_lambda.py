"""The official client in conversation with a streaming function, one sandbox for each request at once."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.subscriptions import ToolsListChanged

from tests.support.waiting import eventually
from tmcp_serverless import Notifier
from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator

from .person import LIMIT_SECONDS, YES, Person, text_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from tmcp_serverless.dev.lambda_emulator.sandbox import Sandbox

MEMO = "memo://latest"
UPDATED = "notifications/resources/updated"


@pytest.fixture(params=["function-url", "rest-api"])
def new_function(
    request: pytest.FixtureRequest, database_url: str
) -> Callable[..., AbstractAsyncContextManager[LambdaEmulator]]:
    front_door: str = request.param

    @asynccontextmanager
    async def new(*, seconds: float = 60) -> AsyncGenerator[LambdaEmulator]:
        function = Function(
            "tests.e2e.conversation_server.handler",
            Path(__file__).parents[2],
            timeout_seconds=seconds,
            environment={"TMCP_DATABASE_URL": database_url, "TMCP_RETRY_MILLISECONDS": "200"},
        )
        async with LambdaEmulator(function, front_door=front_door) as emulator:
            yield emulator

    return new


def method_of(sandbox: Sandbox) -> str | None:
    if sandbox.current is None:
        return None
    event = json.loads(sandbox.current.event)
    return event.get("httpMethod") or event["requestContext"]["http"]["method"]


async def listening(emulator: LambdaEmulator) -> Sandbox:
    """Return the sandbox that holds the standalone stream, once there is one."""

    async def found() -> list[Sandbox]:
        return [each for each in emulator.sandboxes if method_of(each) == "GET"]

    return (await eventually(found))[-1]


async def test_a_tool_asks_the_user_and_is_told_in_another_sandbox(
    new_function: Callable[..., AbstractAsyncContextManager[LambdaEmulator]],
) -> None:
    person = Person(YES)
    async with new_function() as emulator, person.at(f"{emulator.url}/mcp") as client:
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == "accept: True, because"
        told = text_of(await client.call_tool("everything_at_once")).splitlines()
        assert told[:3] == ["accept: True, because"] * 3
        assert len(emulator.sandboxes) >= 3, "the GET, the call, and the answer to its question"


async def test_news_reach_the_stream_of_a_sandbox_from_the_others(
    new_function: Callable[..., AbstractAsyncContextManager[LambdaEmulator]],
) -> None:
    person = Person()
    async with new_function() as emulator, person.at(f"{emulator.url}/mcp") as client:
        await client.subscribe_resource(MEMO)  # pyright: ignore[reportDeprecated]
        await listening(emulator)
        for count in range(1, 4):
            assert text_of(await client.call_tool("touch")) == "touched"
            await person.until(lambda count=count: len(person.notifications(UPDATED)) >= count)
        assert len(person.notifications(UPDATED)) == 3


async def test_the_modern_era_asks_and_tells_on_a_function_too(
    new_function: Callable[..., AbstractAsyncContextManager[LambdaEmulator]],
) -> None:
    async def answer(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context, params
        return YES

    async with (
        asyncio.timeout(LIMIT_SECONDS),
        new_function() as emulator,
        Client(f"{emulator.url}/mcp", mode="2026-07-28", elicitation_callback=answer) as client,
        client.listen(tools_list_changed=True) as changes,
    ):
        assert text_of(await client.call_tool("consent", {"question": "Sure?"})) == "accept: True, because"
        assert text_of(await client.call_tool("touch")) == "touched"
        assert await anext(changes) == ToolsListChanged()


async def test_a_stream_that_is_frozen_and_killed_goes_on_and_nothing_is_lost(
    new_function: Callable[..., AbstractAsyncContextManager[LambdaEmulator]], database_url: str
) -> None:
    person = Person()
    async with (
        new_function(seconds=6) as emulator,
        Notifier(database_url) as notifier,
        person.at(f"{emulator.url}/mcp"),
    ):
        first = await listening(emulator)
        numbers = iter(range(1_000))

        async def say(count: int) -> None:
            for _ in range(count):
                params = {"level": "info", "data": next(numbers)}
                await notifier.send(None, {"method": "notifications/message", "params": params})

        def heard() -> list[int]:
            return [params["data"] for params in person.notifications("notifications/message")]

        await say(3)
        await person.until(lambda: len(heard()) >= 3)
        first.freeze()
        await say(3)
        pid = first.pid
        await eventually(lambda: _is_none(first))
        await say(3)
        await person.until(lambda: len(heard()) >= 9)
        assert heard() == list(range(9))
        assert (await listening(emulator)).pid != pid


async def test_a_stream_ends_before_its_deadline_and_its_sandbox_lives_on(
    new_function: Callable[..., AbstractAsyncContextManager[LambdaEmulator]], database_url: str
) -> None:
    person = Person()
    async with (
        new_function(seconds=4) as emulator,
        Notifier(database_url) as notifier,
        person.at(f"{emulator.url}/mcp"),
    ):
        first = await listening(emulator)
        invocation = first.current
        assert invocation is not None
        for number in range(40):
            params = {"level": "info", "data": number}
            await notifier.send(None, {"method": "notifications/message", "params": params})
            await asyncio.sleep(0.1)
        await person.until(lambda: len(person.notifications("notifications/message")) >= 40)
        assert [each["data"] for each in person.notifications("notifications/message")] == list(range(40))
        assert invocation.ended
        assert invocation.failure is None
        assert first.pid is not None


async def _is_none(sandbox: Sandbox) -> bool:
    return sandbox.pid is None
