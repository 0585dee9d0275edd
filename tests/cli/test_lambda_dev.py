"""`tmcp-serverless dev --lambda`: the command, in a process of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import httpx
import pytest
from mcp import Client

from tests.cli.support import command, ended
from tests.cli.test_dev import NOWHERE, address, end, running
from tests.support import web

if TYPE_CHECKING:
    from pathlib import Path

HANDLER = """\
import sys
from mcp.server import MCPServer
from tmcp_serverless import create_handler

server = MCPServer("here")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

handler = create_handler(server)

@handler.on_event
def on_event(event, context):
    return [event, context.function_name]
"""
INVOKE = "/2015-03-31/functions/function/invocations"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(HANDLER)
    return tmp_path


@pytest.mark.parametrize("target", ["mine.py:handler", "mine:handler"])
async def test_it_serves_a_handler_as_a_function_that_streams(target: str, folder: Path) -> None:
    with running(target, "--lambda", "--sandboxes", "3", folder=folder) as (process, printed):
        assert f"{target}, as a Lambda function with up to 3 sandboxes, on " in printed
        url = address(printed)
        async with Client(f"{url}/mcp", mode="legacy") as client:
            result = await client.call_tool("add", {"a": 1, "b": 2})
            assert result.structured_content == {"result": 3}
        async with httpx.AsyncClient(base_url=url, timeout=web.LIMIT_SECONDS) as http:
            answer = await http.post(INVOKE, json={"source": "aws.events"})
        assert answer.json() == [{"source": "aws.events"}, "function"]
        code, written = end(process, signal.SIGINT)
    assert code == 0
    assert written.startswith("\nStopping.\n")


def test_verbose_logs_requests(folder: Path) -> None:
    arguments = ("mine:handler", "--lambda", "--verbose", "--database-url", NOWHERE)
    with running(*arguments, folder=folder) as (process, printed):
        web.get(f"{address(printed)}/nowhere")
        assert "GET /nowhere 404" in end(process, signal.SIGTERM)[1]


def test_sigterm_ends_it_too(folder: Path) -> None:
    with running("mine:handler", "--lambda", "--database-url", NOWHERE, folder=folder) as (process, _):
        assert end(process, signal.SIGTERM)[0] == 0


def test_a_deadline_that_has_come_is_said(folder: Path) -> None:
    text = HANDLER.replace("return [event, context.function_name]", "import time; time.sleep(60)")
    (folder / "mine.py").write_text(text)
    arguments = ("mine:handler", "--lambda", "--timeout", "1", "--database-url", NOWHERE)
    with running(*arguments, folder=folder) as (process, printed):
        answer = web.post(f"{address(printed)}{INVOKE}", json={})
        assert answer.json()["errorType"] == "Sandbox.Timedout"
        assert "Task timed out after 1.00 seconds" in end(process, signal.SIGINT)[1]


def test_what_cannot_be_initialized_is_one_sentence(folder: Path) -> None:
    for target, sentence in {
        "mine:sys": "'sys' in module 'mine' is no handler made by tmcp_serverless.create_handler",
        "mine:other": "Handler 'other' missing on module 'mine'",
        "mine:server.add": "On Lambda a handler is MODULE:NAME, and 'server.add' is no plain name.",
        "no.py:handler": f"There is no file no.py in {folder}.",
    }.items():
        process = command("dev", target, "--lambda", "--port", "0", "--database-url", NOWHERE, folder=folder)
        code, _, errors = ended(process)
        assert code == 2
        assert errors.splitlines()[-1].startswith("Error: ")
        assert sentence in errors.splitlines()[-1]


def test_a_deployed_package_needs_its_wrapper(folder: Path) -> None:
    (folder / "streaming").write_text("#!/bin/bash\n")
    for arguments, sentence in {
        (): "A deployed package brings its own wrapper",
        ("--exec-wrapper", "/var/task/none"): "/none: does not exist",
        ("--exec-wrapper", "/var/task/streaming"): "/streaming: is not an executable",
    }.items():
        process = command(
            *("dev", "mine:handler", "--lambda", "--task-root", str(folder), *arguments),
            *("--port", "0", "--database-url", NOWHERE),
        )
        code, _, errors = ended(process)
        assert (code, sentence in errors) == (2, True), errors


def test_a_wrapper_without_a_package_is_refused(folder: Path) -> None:
    arguments = ("dev", "mine:handler", "--lambda", "--port", "0", "--database-url", NOWHERE)
    code, _, errors = ended(command(*arguments, "--exec-wrapper", "/var/task/x", folder=folder))
    assert (code, "--exec-wrapper goes with --task-root" in errors) == (2, True), errors


def test_instances_and_amnesia_are_something_else(folder: Path) -> None:
    for other in (("--instances", "2"), ("--amnesia",)):
        code, _, errors = ended(command("dev", "mine:handler", "--lambda", *other, folder=folder))
        assert (code, "--lambda starts sandboxes as they are needed" in errors) == (2, True)


@pytest.mark.parametrize("target", ["mine.py:server", "mine:handler"])
async def test_a_server_will_do_and_its_endpoint_is_where_it_is_told(target: str, folder: Path) -> None:
    arguments = (target, "--lambda", "--path", "/tools")
    with running(*arguments, folder=folder) as (process, printed):
        url = f"{address(printed)}/tools"
        assert f'Client("{url}", mode="legacy")' in printed
        async with Client(url, mode="legacy") as client:
            result = await client.call_tool("add", {"a": 1, "b": 2})
            assert result.structured_content == {"result": 3}
        assert end(process, signal.SIGINT)[0] == 0


def test_the_endpoint_that_the_code_says_is_announced(folder: Path) -> None:
    (folder / "mine.py").write_text(HANDLER.replace("(server)", "(server, path='/own')"))
    arguments = ("mine:handler", "--lambda", "--database-url", NOWHERE)
    with running(*arguments, folder=folder) as (_, printed):
        assert f'Client("{address(printed)}/own", mode="legacy")' in printed


def test_what_only_pythonpath_has_is_named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "helper.py").write_text("")
    (folder / "mine.py").write_text(f"import helper\n{HANDLER}")
    arguments = ("dev", "mine:handler", "--lambda", "--port", "0", "--database-url", NOWHERE)
    code, _, errors = ended(command(*arguments, folder=folder, PYTHONPATH=str(elsewhere)))
    last = errors.splitlines()[-1]
    assert code == 2
    assert f"PYTHONPATH has it ({elsewhere / 'helper.py'})" in last
    assert f"copy helper to {folder}" in last


def test_what_nothing_has_is_not_said_to_be_in_pythonpath(folder: Path) -> None:
    (folder / "mine.py").write_text(f"import helper\n{HANDLER}")
    arguments = ("dev", "mine:handler", "--lambda", "--port", "0", "--database-url", NOWHERE)
    code, _, errors = ended(command(*arguments, folder=folder, PYTHONPATH=str(folder.parent)))
    assert (code, "No module named 'helper'" in errors, "PYTHONPATH has" in errors) == (2, True, False)
