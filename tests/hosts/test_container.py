"""A container that is told to go: within the ten seconds that Cloud Run gives it, whatever is open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.support import web
from tests.support.activity import connections
from tests.support.waiting import eventually
from tmcp_serverless import PostgresStreamSessionManager
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

STREAMS = 20
CODE = """\
import asyncio
from tests.support.servers import small_server
from tmcp_serverless import create_handler
from tmcp_serverless.hosts.container import serve

server = small_server()

@server.tool()
async def endless() -> str:
    await asyncio.sleep(3600)
    return "never"

serve(create_handler(server, defer_seconds=0).app, host="127.0.0.1")
"""


@contextmanager
def container(database_url: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "TMCP_DATABASE_URL": database_url}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if web.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def headers(session: str | None = None) -> dict[str, str]:
    found = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    return found if session is None else {**found, "mcp-session-id": session}


def initialize(client: httpx.Client) -> str:
    params: dict[str, Any] = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    return client.post("/mcp", json=message, headers=headers()).headers["mcp-session-id"]


async def test_it_leaves_in_time_with_open_streams_and_a_running_tool(database_url: str) -> None:
    with container(database_url) as (process, url), ExitStack() as stack:
        until_ready(url)
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        sessions = [initialize(client) for _ in range(STREAMS)]
        session = sessions[0]
        streams = [
            stack.enter_context(client.stream("GET", "/mcp", headers=headers(each))) for each in sessions
        ]
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "endless"}}
        streams.append(
            stack.enter_context(
                client.stream("POST", "/mcp", content=json.dumps(call), headers=headers(session))
            )
        )
        assert [response.status_code for response in streams] == [200] * (STREAMS + 1)
        began_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        for response in streams[:STREAMS]:
            response.read()  # Ends, and not by being cut off.
        assert time.monotonic() - began_at < 3, "streams end at once: clients go on elsewhere"
        process.wait(10)
        assert time.monotonic() - began_at < 10

        async def none_is_left() -> bool:
            return not await connections(database_url)

        await eventually(none_is_left)
        async with PostgresStreamSessionManager(database_url) as manager:
            assert not await manager.has(session), "the lease was given back"
