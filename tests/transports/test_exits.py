"""User code that exits: an error of its call, in both eras, and the next call is answered."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.server import MCPServer

from tests.support.client import Client
from tests.support.modern import ModernClient
from tmcp_serverless import create_handler
from tmcp_serverless.exits import ExitError
from tmcp_serverless.hosts.event_loop import run

if TYPE_CHECKING:
    from collections.abc import Callable

INTERNAL_ERROR = -32603


def exiting() -> MCPServer:  # noqa: C901 - one function for each way to exit
    server = MCPServer("exiting", log_level="CRITICAL")

    @server.tool()
    async def leave() -> str:
        sys.exit(2)

    @server.tool()
    def leave_thread() -> str:
        sys.exit(2)

    @server.tool()
    async def interrupt() -> str:
        raise KeyboardInterrupt

    @server.tool()
    async def generator() -> str:
        raise GeneratorExit

    @server.tool()
    async def cancelled() -> str:
        raise asyncio.CancelledError

    @server.tool()
    async def grouped() -> str:
        async def child() -> None:
            sys.exit(2)

        async with anyio.create_task_group() as group:
            group.start_soon(child)
        return "never"

    @server.tool()
    async def fine() -> str:
        return "fine"

    @server.resource("note://leaving")
    def note() -> str:
        sys.exit(2)

    @server.prompt()
    def ask() -> str:
        sys.exit(2)

    @server.completion()
    async def complete(*_: Any) -> None:
        sys.exit(2)

    return server


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *(
        ("tools/call", {"name": name, "arguments": {}})
        for name in ("leave", "leave_thread", "interrupt", "generator", "cancelled")
    ),
    ("resources/read", {"uri": "note://leaving"}),
    ("prompts/get", {"name": "ask", "arguments": {}}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "ask"}, "argument": {"name": "a", "value": ""}},
    ),
]


@pytest.mark.parametrize(("method", "params"), REQUESTS)
async def test_an_exit_is_an_error_of_its_request(method: str, params: dict[str, Any]) -> None:
    app = create_handler(exiting(), database_url="").app
    legacy = await Client(app).initialize()
    modern = ModernClient(app)
    for answered in (await legacy.ask(method, params), await modern.ask(method, params)):
        assert answered.messages[-1]["error"]["code"] == INTERNAL_ERROR
    assert (await legacy.result("tools/call", {"name": "fine", "arguments": {}}))["content"][0][
        "text"
    ] == "fine"
    assert (await modern.call("fine"))["content"][0]["text"] == "fine"


def test_an_exit_in_a_task_group_is_an_error_of_its_request() -> None:
    async def main() -> None:
        app = create_handler(exiting(), database_url="").app
        legacy = await Client(app).initialize()
        modern = ModernClient(app)
        params: dict[str, Any] = {"name": "grouped", "arguments": {}}
        for client in (legacy, modern):
            answered = await client.ask("tools/call", params)
            assert answered.messages[-1]["error"]["code"] == INTERNAL_ERROR
        assert await legacy.call("fine") == "fine"

    run(main())  # asyncio ends any other loop with the child


def test_a_background_task_that_exits_does_not_end_the_loop() -> None:
    async def main() -> str:
        left = asyncio.create_task(_leave())
        await asyncio.wait([left])
        return "it goes on"

    assert run(main()) == "it goes on"


def test_a_main_coroutine_that_exits_ends_the_loop() -> None:
    with pytest.raises(SystemExit):
        run(_leave())


async def _leave() -> None:
    sys.exit(2)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_a_lifespan_that_exits_has_failed(error: BaseException) -> None:
    handler = create_handler(MCPServer("x", lifespan=_failing(error)), database_url="")
    with pytest.raises(ExitError):
        await handler.prime()


def _failing(error: BaseException) -> Callable[..., Any]:
    class Failing:
        async def __aenter__(self) -> None:
            raise error

        async def __aexit__(self, *_: object) -> None: ...

    def lifespan(_: Any) -> Failing:
        return Failing()

    return lifespan
