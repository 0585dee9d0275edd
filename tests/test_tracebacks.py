"""The log of failed requests: a line for a client's mistake, and few tracebacks for a server's own."""

from __future__ import annotations

import logging
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import FastMCP
from mcp.server import MCPServer

from tests.support.client import Client
from tests.support.waiting import eventually
from tmcp_serverless import tracebacks

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

KINDS = {"MCPServer": MCPServer, "FastMCP": FastMCP}
CONTROLS = "a\nb\x1b[31m"

MISTAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown prompt": ("prompts/get", {"name": CONTROLS}),
    "missing argument": ("prompts/get", {"name": "greet", "arguments": {}}),
    "unknown argument": ("prompts/get", {"name": "greet", "arguments": {"name": "x", "no": CONTROLS}}),
    "unknown tool": ("tools/call", {"name": CONTROLS, "arguments": {}}),
    "wrong argument": ("tools/call", {"name": "double", "arguments": {"number": CONTROLS}}),
    "unknown resource": ("resources/read", {"uri": "note://one/two"}),
    "wrong parameters": ("prompts/get", {"name": 7}),
}


def server_of(kind: str) -> Any:
    server: Any = KINDS[kind]("x")

    @server.tool()
    async def double(number: int) -> str:
        return str(2 * number)

    @server.tool()
    async def fail(text: str) -> str:
        raise LookupError(text)

    @server.tool()
    async def lie() -> int:
        return "no number"  # type: ignore[return-value]

    @server.prompt()
    async def greet(name: str) -> str:
        return name

    @server.prompt()
    async def broken(name: str) -> str:
        raise LookupError(name)

    return server


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastMCP's loggers write by themselves; pytest listens at the root. No traceback was left out before."""
    monkeypatch.setattr(logging.getLogger("fastmcp"), "propagate", True)
    counted = tracebacks._tracebacks  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(tracebacks, "_tracebacks", type(counted)())


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_clients_mistake_is_one_line_without_a_traceback(
    new_handler: NewHandler, kind: str, mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await Client(new_handler(server_of(kind)).app).initialize()
    method, params = MISTAKES[mistake]
    with caplog.at_level(logging.INFO):
        await client.ask(method, params)
    for record in caplog.records:
        assert not record.exc_info, record
        assert record.levelno <= logging.WARNING, record
        line = record.getMessage()
        assert line.isprintable(), line


@pytest.mark.parametrize(
    ("kind", "method", "name"),
    [
        ("MCPServer", "tools/call", "fail"),
        ("MCPServer", "prompts/get", "broken"),
        ("FastMCP", "tools/call", "fail"),
        ("FastMCP", "prompts/get", "broken"),
    ],
)
async def test_a_servers_own_failure_has_a_traceback_once_a_second(
    new_handler: NewHandler, kind: str, method: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await Client(new_handler(server_of(kind)).app).initialize()
    argument = "text" if method == "tools/call" else "name"

    async def told_of_more() -> bool:
        await client.ask(method, {"name": name, "arguments": {argument: "the reason"}})
        return any("without a traceback)" in each.getMessage() for each in caplog.records if each.exc_info)

    with caplog.at_level(logging.INFO):
        await eventually(told_of_more)
    with_one = [each for each in caplog.records if each.exc_info and each.levelno == logging.ERROR]
    without = [each for each in caplog.records if "LookupError: " in each.getMessage()]
    assert all("(traceback left out)" in each.getMessage() for each in without)
    assert without
    assert all(later.created - first.created > 0.9 for first, later in pairwise(with_one))


async def test_a_result_of_another_type_is_the_servers_own_failure(
    new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    client = await Client(new_handler(server_of("MCPServer")).app).initialize()
    await client.ask("tools/call", {"name": "lie", "arguments": {}})
    assert any(each.levelno == logging.ERROR and "lie" in each.getMessage() for each in caplog.records)


async def test_a_failure_with_a_long_text_is_a_short_line(
    new_handler: NewHandler, caplog: pytest.LogCaptureFixture
) -> None:
    client = await Client(new_handler(server_of("MCPServer")).app).initialize()
    form = logging.Formatter()

    async def has_traceback() -> bool:
        await client.ask("tools/call", {"name": "fail", "arguments": {"text": "x" * 100_000}})
        return any("in fail" in form.format(each) for each in caplog.records)

    await eventually(has_traceback)
    assert max(len(form.format(each)) for each in caplog.records) < 20_000


RICH = """\
import asyncio, logging
from fastmcp import FastMCP
from mcp.server import MCPServer
from rich.logging import RichHandler
from tmcp_serverless import create_handler

class Mine(RichHandler):
    pass

server = MCPServer("x")
logging.getLogger().addHandler(Mine())
logging.getLogger("mine").addHandler(RichHandler())
logging.makeLogRecord({"msg": "as ever"})

async def main():
    handler = create_handler(server, database_url="")
    for _ in range(2):
        await handler.app.startup()
        await handler.aclose()

def kinds(name=None):
    return sorted({type(each).__name__ for each in logging.getLogger(name).handlers})

before = kinds(), kinds("fastmcp"), kinds("mine")
asyncio.run(main())
logging.makeLogRecord({"msg": "as ever"})
print(*before, kinds(), kinds("fastmcp"), kinds("mine"), sep="; ")
"""


def test_handlers_of_rich_are_replaced_once_and_those_of_others_stay() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RICH], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == (
        "['Mine', 'RichHandler']; ['RichHandler']; ['RichHandler']; "
        "['Mine', 'StreamHandler']; ['StreamHandler']; ['RichHandler']"
    )
    assert done.stderr.count("are plain from now on") == 1
