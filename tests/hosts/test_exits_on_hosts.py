"""Routes, and tasks left behind by tools, that exit on each of our hosts; signals still end the hosts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cli.support import until
from tests.cli.test_dev import address, end
from tests.cli.test_dev import running as dev
from tests.hosts.platform import Platform
from tests.hosts.recorded import function_url
from tests.support.exiting import WAYS
from tests.support.modern import META, MODERN
from tmcp_serverless.cli.lambda_emulator.runtime_server import RuntimeServer
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
APP = "tests.hosts.exiting_app"
NOWHERE = "postgresql://user:secret@db.example/orders"
LEFT_BEHIND = ("exit", "interrupt", "group", "exit")

Send = Callable[[str, str, dict[str, str], str], tuple[int, str]]
"""Sends a request: method, path, headers and body. Returns the status and the answer's body."""


def call(send: Send, tool: str, **arguments: str) -> str:
    """Call a tool at 2026-07-28, which needs no session, and return its text."""
    meta: dict[str, Any] = {
        f"{META}/protocolVersion": MODERN,
        f"{META}/clientInfo": {"name": "by hand", "version": "1"},
        f"{META}/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    status, body = send("POST", "/mcp", headers, json.dumps(message))
    assert status == 200, body
    return json.loads(body)["result"]["content"][0]["text"]


def survives(send: Send) -> None:
    """Have everything exit, and see that it is one process that answers afterwards."""
    process = call(send, "left").split()[0]
    for way in WAYS:
        assert send("GET", f"/leave/{way}", {}, "")[0] == 500, way
    for number, way in enumerate(LEFT_BEHIND, start=1):
        assert call(send, "leave_behind", way=way) == "done"
        until(lambda number=number: call(send, "left") == f"{process} {number}", limit_seconds=60)
    assert call(send, "fine") == "fine"
    assert call(send, "left") == f"{process} {len(LEFT_BEHIND)}"


def over(url: str) -> Send:
    def send(method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, str]:
        answer = httpx.request(method, f"{url}{path}", headers=headers, content=body, timeout=30)
        return answer.status_code, answer.text

    return send


@contextmanager
def served() -> Generator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port)}
    command = [sys.executable, "-m", APP]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: answers(f"{url}/healthz"), limit_seconds=60)
            yield process, url
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return bool(httpx.get(url, timeout=30).status_code)
    except httpx.TransportError:
        return False


def test_a_container_survives_and_ctrl_c_ends_it() -> None:
    with served() as (process, url):
        survives(over(url))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_an_instance_of_dev_survives_and_ctrl_c_ends_it() -> None:
    arguments = (f"{APP}:handler", "--instances", "1", "--database-url", NOWHERE)
    with dev(*arguments, folder=ROOT) as (process, printed):
        survives(over(address(printed)))
        code, written = end(process, signal.SIGINT)
    assert code == 0
    assert "starting another" not in written


def test_a_sandbox_that_streams_survives_and_sigterm_ends_it() -> None:
    arguments = (f"{APP}:handler", "--lambda", "--sandboxes", "1", "--database-url", NOWHERE)
    with dev(*arguments, folder=ROOT) as (process, printed):
        survives(over(address(printed)))
        assert end(process, signal.SIGTERM)[0] == 0


BUFFERED = """\
import json, sys
from tests.hosts.exiting_app import handler
from tests.hosts.recorded import HEADERS, function_url

for line in sys.stdin:
    method, path, headers, body = json.loads(line)
    answer = handler(function_url(method, {**HEADERS, **headers}, body, path=path), None)
    print(json.dumps([answer["statusCode"], answer["body"]]), flush=True)
"""


@contextmanager
def buffered() -> Generator[tuple[subprocess.Popen[str], Callable[..., None]]]:
    """A process that answers whole, as AWS's own runtime has it: the loop rests between invocations."""
    with subprocess.Popen(
        [sys.executable, "-c", BUFFERED],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:

        def ask(*request: Any) -> None:
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(request)}\n")
            process.stdin.flush()

        try:
            yield process, ask
        finally:
            process.kill()


def test_a_sandbox_that_answers_whole_survives_and_ctrl_c_ends_it() -> None:
    with buffered() as (process, ask):

        def send(*request: Any) -> tuple[int, str]:
            ask(*request)
            assert process.stdout is not None
            status, body = json.loads(process.stdout.readline())
            return status, body

        survives(send)
        ask("GET", "/wait", {}, "")
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_what_streams(number: signal.Signals) -> None:
    platform = Platform()
    invoking: asyncio.Task[Any] | None = None
    server = RuntimeServer(platform, handler="app.handler")
    variables = {
        "AWS_LAMBDA_RUNTIME_API": await server.start(),
        "_HANDLER": f"{APP}.handler",
        "LAMBDA_TASK_ROOT": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tmcp_serverless.hosts.lambda_streaming"),
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            await platform.idle.wait()
            invoking = asyncio.create_task(platform.invoke(function_url("GET", path="/wait")))
            assert process.stdout is not None
            while await process.stdout.readline() != b"waiting\n":
                pass
            process.send_signal(number)
            assert await process.wait() == (0 if number == signal.SIGTERM else -number)
    finally:
        if invoking is not None:
            invoking.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await server.aclose()
