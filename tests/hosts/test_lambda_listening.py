"""What a streaming function leaves behind in Postgres: nothing that LISTENs, whatever became of its sandbox.

The connections that LISTEN are told from the others by their role.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from tests.support.waiting import eventually
from tmcp_serverless.cli.lambda_emulator import Function, LambdaEmulator

pytestmark = pytest.mark.anyio

ACCEPT = {"accept": "application/json, text/event-stream"}
REAPED_SECONDS = 15.5
"""15 s after its last statement the server closes the connection; the rest is for finding that out."""


@dataclass
class Deployment:
    emulator: LambdaEmulator
    client: httpx.AsyncClient
    database: asyncpg.Connection
    role: str

    async def listeners(self) -> int:
        """How many connections there are that LISTEN, or may."""
        count = await self.database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", self.role
        )
        assert isinstance(count, int)
        return count

    async def until_listeners(self, count: int, *, seconds: float = 60) -> None:
        async def are_there() -> bool:
            return await self.listeners() == count

        await eventually(are_there, seconds=seconds)

    async def post(self, message: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post("/mcp", json={"jsonrpc": "2.0", **message}, headers=ACCEPT | headers)

    async def initialize(self) -> dict[str, str]:
        """Make a session, and return the headers that name it."""
        capabilities = {"elicitation": {"form": {}}}
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "c", "version": "1"},
        }
        answer = await self.post({"id": 0, "method": "initialize", "params": params})
        assert answer.status_code == 200, answer.text
        headers = {
            "mcp-session-id": answer.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-11-25",
        }
        await self.post({"method": "notifications/initialized"}, **headers)
        return headers


@asynccontextmanager
async def deployed(database_url: str, *, seconds: float) -> AsyncGenerator[Deployment]:
    role, password = f"listener_{secrets.token_hex(6)}", secrets.token_hex(6)
    parts = urlsplit(database_url)
    listen_url = urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.netloc.rpartition('@')[2]}"))
    database = await asyncpg.connect(database_url)
    owner = await database.fetchval("SELECT current_user")
    await database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}' IN ROLE \"{owner}\"")
    function = Function(
        "tests.e2e.conversation_server.handler",
        Path(__file__).parents[2],
        timeout_seconds=seconds,
        environment={"TMCP_DATABASE_URL": database_url, "TMCP_LISTEN_URL": listen_url},
    )
    try:
        async with (
            LambdaEmulator(function) as emulator,
            httpx.AsyncClient(base_url=emulator.url, timeout=90) as client,
        ):
            yield Deployment(emulator, client, database, role)
    finally:
        await _drop(database, role)


async def _drop(database: asyncpg.Connection, role: str) -> None:
    await database.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE usename = $1", role
    )
    await database.execute(f"DROP ROLE {role}")
    await database.close()


async def test_a_stream_that_ends_leaves_nothing_that_listens(database_url: str) -> None:
    async with deployed(database_url, seconds=5) as deployment:
        headers = await deployment.initialize()
        async with deployment.client.stream("GET", "/mcp", headers=ACCEPT | headers) as response:
            assert response.status_code == 200
            await deployment.until_listeners(1)
            started = time.monotonic()
            await response.aread()
            assert time.monotonic() - started < 5, "it ends before the deadline"
        assert await deployment.listeners() == 0, "when the answer is complete, LISTEN has ended"
        assert all(each.pid for each in deployment.emulator.sandboxes)


async def test_a_request_that_asks_leaves_nothing_that_listens(database_url: str) -> None:
    async with deployed(database_url, seconds=30) as deployment:
        headers = await deployment.initialize()
        call = {"name": "consent", "arguments": {"question": "Sure?"}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        async with deployment.client.stream(
            "POST", "/mcp", json=message, headers=ACCEPT | headers
        ) as response:
            async for line in response.aiter_lines():
                if "elicitation/create" in line:
                    await deployment.until_listeners(1)
                    content = {"sure": True}
                    answer = {
                        "id": json.loads(line[6:])["id"],
                        "result": {"action": "accept", "content": content},
                    }
                    assert (await deployment.post(answer, **headers)).status_code == 202
        await eventually(lambda: _all_frozen(deployment.emulator))
        assert await deployment.listeners() == 0


async def test_a_request_that_outlasts_its_invocation_is_stopped_and_its_client_is_told(
    database_url: str,
) -> None:
    async with deployed(database_url, seconds=4) as deployment:
        headers = await deployment.initialize()
        call = {"name": "consent", "arguments": {"question": "Will you ever answer?"}}
        answer = await deployment.post({"id": 1, "method": "tools/call", "params": call}, **headers)
        ids = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]
        assert "elicitation/create" in answer.text
        await eventually(lambda: _all_frozen(deployment.emulator))
        assert await deployment.listeners() == 0
        assert all(each.pid for each in deployment.emulator.sandboxes), "nothing had to be killed"
        resumed = await deployment.client.get("/mcp", headers=ACCEPT | headers | {"last-event-id": ids[-1]})
        assert "call again" in resumed.text


async def test_a_modern_subscription_that_ends_leaves_nothing_that_listens(database_url: str) -> None:
    async with deployed(database_url, seconds=5) as deployment:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        wanted = {"toolsListChanged": True}
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "subscriptions/listen",
            "params": {"notifications": wanted, "_meta": meta},
        }
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
        async with deployment.client.stream(
            "POST", "/mcp", json=message, headers=ACCEPT | headers
        ) as response:
            assert response.status_code == 200, await response.aread()
            await deployment.until_listeners(1)
            await response.aread()
        await eventually(lambda: _all_frozen(deployment.emulator))
        assert await deployment.listeners() == 0
        assert all(each.pid for each in deployment.emulator.sandboxes), "it ended before its deadline"


async def test_a_sandbox_that_is_killed_leaves_nothing_that_listens(database_url: str) -> None:
    async with deployed(database_url, seconds=60) as deployment:
        headers = await deployment.initialize()
        async with deployment.client.stream("GET", "/mcp", headers=ACCEPT | headers) as response:
            await deployment.until_listeners(1)
            for sandbox in deployment.emulator.sandboxes:
                await sandbox.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()
        await deployment.until_listeners(0, seconds=10)


@pytest.mark.slow
async def test_a_sandbox_that_is_frozen_in_an_invocation_listens_for_15_seconds_at_the_most(
    database_url: str,
) -> None:
    async with deployed(database_url, seconds=60) as deployment:
        headers = await deployment.initialize()
        async with deployment.client.stream("GET", "/mcp", headers=ACCEPT | headers) as response:
            assert await anext(response.aiter_text()), "it listens when the stream has begun"
            await deployment.until_listeners(1)
            for sandbox in deployment.emulator.sandboxes:
                sandbox.freeze()
            await deployment.until_listeners(0, seconds=REAPED_SECONDS)


async def _all_frozen(emulator: LambdaEmulator) -> bool:
    return all(each.frozen for each in emulator.sandboxes)
