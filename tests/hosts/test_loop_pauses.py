"""The event loop of a container stays free, whatever one client sends: nothing holds it for long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support import web
from tests.support.watchdog import PATH, longest_while
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

CODE = """\
import sys
from fastmcp import FastMCP
from mcp.server import MCPServer
from tests.support.watchdog import Watched
from tmcp_serverless import create_handler
from tmcp_serverless.hosts.container import serve

server = {"MCPServer": MCPServer, "FastMCP": FastMCP}[sys.argv[1]]("x")

@server.tool()
async def add(numbers: list[int]) -> str:
    return str(sum(numbers))

@server.tool()
async def measure(text: str) -> str:
    return str(len(text))

@server.tool()
async def fail(text: str) -> str:
    raise ValueError(text)

@server.prompt()
async def greet(name: str) -> str:
    return name

@server.resource("note://{name}")
async def note(name: str) -> str:
    return str(len(name))

serve(Watched(create_handler(server, database_url="").app), host="127.0.0.1", port=int(sys.argv[2]))
"""

MOST = 10.0
"""The longest pause, as a multiple of the time that the same process needs to parse 60,000 values."""

BODY_BYTES = 4 * 1024 * 1024 - 1024
VALUES = 9_900
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def asking(method: str, params: Any, *, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def calling(tool: str, **arguments: Any) -> dict[str, Any]:
    return asking("tools/call", {"name": tool, "arguments": arguments})


def with_more(more: bytes) -> bytes:
    """A call with something that its tool has no parameter for."""
    call = json.dumps(calling("measure", text="a", more="here")).encode()
    return call.replace(b'"here"', more)


def many(part: bytes) -> bytes:
    return with_more(b"[" + part * (BODY_BYTES // len(part) - 100) + b"1]")


def modern(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return asking(method, {**params, "_meta": META})


UNKNOWN_PROMPT = asking("prompts/get", {"name": "nope"})
NO_SUCH_ARGUMENT = asking("prompts/get", {"name": "greet", "arguments": {"no": "x"}})

HOSTILE: dict[str, tuple[Any, set[int]]] = {
    "two million ones": (many(b"1,"), {413}),
    "a million empty lists": (many(b"[],"), {413}),
    "a million empty texts": (many(b'"",'), {413}),
    "members": (with_more(b"{" + b",".join(b'"%06x":1' % i for i in range(380_000)) + b"}"), {413}),
    "members, as many as may be": (with_more(json.dumps({str(i): {} for i in range(3_000)}).encode()), {200}),
    "brackets": (b"[" * BODY_BYTES, {413}),
    "quotes": (b'"' * BODY_BYTES, {400}),
    "an answer of empty lists": (
        {"jsonrpc": "2.0", "id": "rMQ." + "0" * 24, "result": {"a": [[]] * 1_000_000}},
        {413},
    ),
    "no such method": (asking("nope", {"a": [1] * 1_000_000}), {413}),
    "wrong arguments": (calling("add", numbers=["a"] * VALUES), {200}),
    "a text with commas": (calling("measure", text="a,b\n" * (BODY_BYTES // 6)), {200}),
    "a failure with a long text": (calling("fail", text="x" * BODY_BYTES), {200}),
    "a prompt with a long name": (asking("prompts/get", {"name": "x" * BODY_BYTES}), {200}),
    "a tool with a long name": (asking("tools/call", {"name": "x" * BODY_BYTES}), {200}),
    "a resource with a long name": (
        asking("resources/read", {"uri": "note://" + "%41" * (BODY_BYTES // 3)}),
        {200},
    ),
    "a subscription to a long name": (
        asking("resources/subscribe", {"uri": "note://" + "x" * BODY_BYTES}),
        {200},
    ),
    "a batch of unknown prompts": ([{**UNKNOWN_PROMPT, "id": i} for i in range(100)], {200}),
    "a batch of unknown arguments": ([{**NO_SUCH_ARGUMENT, "id": i} for i in range(100)], {200}),
    "a batch of failures": ([{**calling("fail", text="x"), "id": i} for i in range(100)], {200}),
    "modern: two million ones": (modern("tools/call", {"a": [1] * 1_000_000}), {413}),
    "modern: wrong arguments": (
        modern("tools/call", calling("add", numbers=["a"] * VALUES)["params"]),
        {200},
    ),
    "modern: an unknown prompt": (modern("prompts/get", {"name": "nope"}), {200, 400}),
    "modern: a hundred thousand URIs": (
        modern(
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": [f"s:{i:07}" for i in range(100_000)]}},
        ),
        {413},
    ),
}


@contextmanager
def container(kind: str) -> Generator[str]:
    port = free_port()
    command = [sys.executable, "-c", CODE, kind, str(port)]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + web.LIMIT_SECONDS
        try:
            while True:
                try:
                    web.get(url + PATH)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield url
        finally:
            process.kill()


def headers(message: Any, session: str) -> dict[str, str]:
    found = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    params = message.get("params") if isinstance(message, dict) else None
    if params and "_meta" in params:
        found |= {"mcp-protocol-version": "2026-07-28", "mcp-method": message["method"]}
        return {**found, "mcp-name": params["name"]} if "name" in params else found
    return {**found, "mcp-session-id": session} if session else found


async def post(client: httpx.AsyncClient, message: Any, session: str = "") -> httpx.Response:
    content = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":"))
    return await client.post("/mcp", content=content, headers=headers(message, session))


@pytest.mark.parametrize("kind", ["MCPServer", "FastMCP"])
async def test_nothing_that_a_client_sends_holds_the_loop(kind: str) -> None:
    with container(kind) as url:
        client = httpx.AsyncClient(base_url=url, timeout=web.LIMIT_SECONDS)
        about = {"capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        sessions = {
            revision: (
                await post(client, asking("initialize", {**about, "protocolVersion": revision}))
            ).headers["mcp-session-id"]
            for revision in ("2025-03-26", "2025-11-25")
        }
        for message in (calling("measure", text="x"), modern("tools/list", {}), UNKNOWN_PROMPT):
            await post(client, message, sessions["2025-11-25"])  # What is imported now is not measured.
        too_long: dict[str, float] = {}
        for name, (message, expected) in HOSTILE.items():
            session = sessions["2025-03-26" if isinstance(message, list) else "2025-11-25"]
            answered: list[int] = []

            async def send(message: Any = message, session: str = session, to: list[int] = answered) -> None:
                to.append((await post(client, message, session)).status_code)

            pause = await longest_while(url, send())
            assert set(answered) <= expected, name
            if pause.cpu > MOST * pause.reference:
                too_long[name] = pause.cpu / pause.reference
        await client.aclose()
        assert too_long == {}
