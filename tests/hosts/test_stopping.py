"""ASGI servers that are told to stop while streams are open: they do, and clients learn how to go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from tests.support.servers import small_server
from tests.support.waiting import eventually
from tmcp_serverless import create_handler
from tmcp_serverless.http import STOPPED
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

APP = "tests.hosts.streaming_app:app"
SERVERS = {
    "uvicorn": ["uvicorn", APP, "--port", "{port}"],
    "uvicorn with a limit": ["uvicorn", APP, "--port", "{port}", "--timeout-graceful-shutdown", "3"],
    "uvicorn with a short limit": ["uvicorn", APP, "--port", "{port}", "--timeout-graceful-shutdown", "1"],
    "uvicorn with h11": ["uvicorn", APP, "--port", "{port}", "--http", "h11", "--loop", "asyncio"],
    "uvicorn with workers": ["uvicorn", APP, "--port", "{port}", "--workers", "2"],
    "uvicorn without lifespan": ["uvicorn", APP, "--port", "{port}", "--lifespan", "off"],
    "gunicorn with uvicorn": [
        "gunicorn",
        APP,
        "-b",
        "127.0.0.1:{port}",
        "-k",
        "uvicorn.workers.UvicornWorker",
    ],
    "gunicorn": ["gunicorn", APP, "-b", "127.0.0.1:{port}", "-k", "asgi"],
    "hypercorn": ["hypercorn", APP, "-b", "127.0.0.1:{port}"],
    "hypercorn with workers": ["hypercorn", APP, "-b", "127.0.0.1:{port}", "--workers", "2"],
}
STOP_SECONDS = 20
"""Far more than it takes: what is tried here would take an hour."""


@contextmanager
def running(
    command: list[str], folder: Path, database_url: str, **variables: str
) -> Generator[tuple[subprocess.Popen[str], str, Path]]:
    """Run a server, and yield its process, its address and its log."""
    port, log = free_port(), folder / "log"
    environment = {**os.environ, "TMCP_DATABASE_URL": database_url, "TMCP_DEFER_SECONDS": "1", **variables}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in command)],
            env=environment,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{port}", log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


class Streams:
    """Streams of every kind that are open at a server, and what has come by them."""

    def __init__(self, url: str, stack: AsyncExitStack, folder: Path) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self._stack = stack
        self._note = folder / "silent"
        self._reading: dict[str, asyncio.Task[None]] = {}
        self.bodies: dict[str, str] = {}
        self.sessions: dict[str, str] = {}

    async def open_all(self) -> None:
        await self._stack.enter_async_context(self._client)
        await eventually(self._is_ready, seconds=30)
        await self._open("standalone", "GET", "/mcp", headers=await self._session("2025-11-25"))
        call = _call("endless")
        await self._open("with ids", "POST", "/mcp", json=call, headers=await self._session("2025-11-25"))
        await self._open("without ids", "POST", "/mcp", json=call, headers=await self._session("2025-06-18"))
        batch = await self._session("2025-03-26")
        await self._open("batch", "POST", "/mcp", json=[call, {**call, "id": 3}], headers=batch)
        await self._open("modern", "POST", "/mcp", json=_modern(call), headers=_modern_headers("endless"))
        wanted = {"notifications": {"toolsListChanged": True}}
        listen = {"jsonrpc": "2.0", "id": 5, "method": "subscriptions/listen", "params": wanted}
        await self._open("listen", "POST", "/mcp", json=_modern(listen), headers=_modern_headers(None))
        await self._open("HTTP+SSE", "GET", "/sse")
        await self._begin_silent()

    async def ended(self) -> None:
        """Wait until each has ended as HTTP has it: what is cut off raises."""
        async with asyncio.timeout(STOP_SECONDS):
            await asyncio.gather(*self._reading.values())

    async def _begin_silent(self) -> None:
        call, session = _call("silent", note=str(self._note)), await self._session("2025-06-18")
        opening = self._open("silent", "POST", "/mcp", json=call, headers=session)
        self._reading["silent"] = asyncio.create_task(opening)

        async def begun() -> bool:
            return self._note.exists()

        await eventually(begun)

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _session(self, revision: str) -> dict[str, str]:
        answer = await self._client.post("/mcp", json=_initialize(revision), headers=_ACCEPT)
        id = answer.headers["mcp-session-id"]
        self.sessions[revision] = id
        return {"mcp-session-id": id, "mcp-protocol-version": revision}

    async def _open(self, name: str, method: str, path: str, **request: Any) -> None:
        request["headers"] = {**_ACCEPT, **request.get("headers", {})}
        response = await self._stack.enter_async_context(self._client.stream(method, path, **request))
        body = response.aiter_text()
        self.bodies[name] = await anext(body)
        reading = asyncio.create_task(self._read(name, body))
        if name in self._reading:
            await reading
        else:
            self._reading[name] = reading

    async def _read(self, name: str, body: Any) -> None:
        async for text in body:
            self.bodies[name] += text


_ACCEPT = {"accept": "application/json, text/event-stream"}
_META = "io.modelcontextprotocol"


def _call(tool: str, **arguments: str) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}


def _initialize(revision: str) -> dict[str, Any]:
    params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def _modern(message: dict[str, Any]) -> dict[str, Any]:
    meta = {
        f"{_META}/protocolVersion": "2026-07-28",
        f"{_META}/clientInfo": {"name": "c", "version": "1"},
        f"{_META}/clientCapabilities": {},
        **message["params"].get("_meta", {}),
    }
    return {**message, "params": {**message["params"], "_meta": meta}}


def _modern_headers(tool: str | None) -> dict[str, str]:
    method = "subscriptions/listen" if tool is None else "tools/call"
    named = {} if tool is None else {"mcp-name": tool}
    return {"mcp-protocol-version": "2026-07-28", "mcp-method": method, **named}


def check(bodies: dict[str, str]) -> None:
    """See that every client knows how to go on."""
    assert "retry: " in bodies["standalone"].rsplit("\n\n", 2)[-2]
    assert "retry: " in bodies["with ids"].rsplit("\n\n", 2)[-2]
    assert STOPPED not in bodies["with ids"]
    assert '"result"' in bodies["listen"]
    for name in ("without ids", "modern", "silent"):
        assert bodies[name].count(STOPPED) == 1, name
    assert bodies["batch"].count(STOPPED) == 2
    assert bodies["HTTP+SSE"].startswith("event: endpoint")


def gone(process: subprocess.Popen[str], log: Path) -> None:
    process.wait(STOP_SECONDS)
    said = log.read_text()
    assert "Traceback" not in said, said
    assert "exceeded" not in said, said


@pytest.mark.parametrize(
    ("server", "doorbell"),
    [*((name, "listen") for name in SERVERS), ("uvicorn", "poll"), ("hypercorn", "poll")],
)
async def test_a_server_stops_though_streams_are_open(
    server: str, doorbell: str, tmp_path: Path, database_url: str
) -> None:
    with running(SERVERS[server], tmp_path, database_url, TMCP_DOORBELL=doorbell) as (process, url, log):
        async with AsyncExitStack() as stack:
            streams = Streams(url, stack, tmp_path)
            await streams.open_all()
            process.send_signal(signal.SIGTERM)
            await streams.ended()
            await asyncio.to_thread(gone, process, log)
            check(streams.bodies)


async def test_ctrl_c_stops_uvicorn(tmp_path: Path, database_url: str) -> None:
    with running(SERVERS["uvicorn"], tmp_path, database_url) as (process, url, log):
        async with AsyncExitStack() as stack:
            streams = Streams(url, stack, tmp_path)
            await streams.open_all()
            process.send_signal(signal.SIGINT)
            await streams.ended()
            await asyncio.to_thread(gone, process, log)
            check(streams.bodies)


async def test_a_reload_does_not_wait_for_streams(tmp_path: Path, database_url: str) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "other.py").write_text("")
    command = [*SERVERS["uvicorn"], "--reload", "--reload-dir", str(watched)]
    with running(command, tmp_path, database_url) as (process, url, log):
        async with AsyncExitStack() as stack:
            streams = Streams(url, stack, tmp_path)
            await streams.open_all()
            (watched / "other.py").write_text("changed = True")
            await streams.ended()
            check(streams.bodies)

            async def reloaded() -> bool:
                return log.read_text().count("Application startup complete") == 2

            await eventually(reloaded, seconds=STOP_SECONDS)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(gone, process, log)


async def test_what_ran_is_found_on_another_instance(tmp_path: Path, database_url: str) -> None:
    with running(SERVERS["uvicorn"], tmp_path, database_url) as (process, url, log):
        async with AsyncExitStack() as stack:
            streams = Streams(url, stack, tmp_path)
            await streams.open_all()
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(gone, process, log)
            await streams.ended()
    ids = [
        line.removeprefix("id: ") for line in streams.bodies["with ids"].splitlines() if line[:4] == "id: "
    ]
    async with create_handler(small_server(), database_url=database_url) as other:
        transport = httpx.ASGITransport(other.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            session = {"mcp-session-id": streams.sessions["2025-11-25"], "mcp-protocol-version": "2025-11-25"}
            answer = await client.get("/mcp", headers={**_ACCEPT, **session, "last-event-id": ids[-1]})
    assert STOPPED in answer.text


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncGenerator[tuple[uvicorn.Server, str]]:
    """Serve an application from this event loop."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, **options))
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    yield server, f"http://127.0.0.1:{port}"
    server.should_exit = True
    async with asyncio.timeout(STOP_SECONDS):
        await serving


async def test_a_server_in_somebodys_loop_stops(tmp_path: Path, database_url: str) -> None:
    from tests.hosts import streaming_app

    handler = create_handler(streaming_app.server, database_url=database_url, defer_seconds=1)
    async with AsyncExitStack() as stack:
        streams = Streams("", stack, tmp_path)
        async with served(handler.app) as (_, url):
            streams._client.base_url = url  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
            await streams.open_all()
        await streams.ended()
        check(streams.bodies)


async def test_a_server_in_a_thread_stops(tmp_path: Path, database_url: str) -> None:
    from tests.hosts import streaming_app

    handler = create_handler(streaming_app.server, database_url=database_url, defer_seconds=1)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(handler.app, port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    async with AsyncExitStack() as stack:
        streams = Streams(f"http://127.0.0.1:{port}", stack, tmp_path)
        await streams.open_all()
        server.should_exit = True
        await streams.ended()
        await asyncio.to_thread(thread.join, STOP_SECONDS)
        check(streams.bodies)
    assert not thread.is_alive()


async def open_standalone(client: httpx.AsyncClient, stack: AsyncExitStack) -> Any:
    answer = await client.post("/mcp", json=_initialize("2025-11-25"), headers=_ACCEPT)
    session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
    response = await stack.enter_async_context(client.stream("GET", "/mcp", headers={**_ACCEPT, **session}))
    body = response.aiter_text()
    while "id: " not in await anext(body):
        pass
    return body


async def test_a_server_stops_that_has_served_enough() -> None:
    handler = create_handler(small_server())
    async with served(handler.app, limit_max_requests=2) as (server, url), AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        body = await open_standalone(client, stack)
        await client.get("/healthz")
        async with asyncio.timeout(STOP_SECONDS):
            rest = [text async for text in body]
        assert rest[-1].startswith("retry: ")
        assert not server.should_exit


async def test_the_stop_of_another_server_in_the_loop_ends_nothing() -> None:
    first, second = create_handler(small_server()), create_handler(small_server())
    async with AsyncExitStack() as stack:
        _, url = await stack.enter_async_context(served(second.app))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        body = await open_standalone(client, stack)
        async with served(first.app) as (_, other_url):
            other = await stack.enter_async_context(httpx.AsyncClient(base_url=other_url, timeout=60))
            ended = await open_standalone(other, stack)
        assert [text async for text in ended][-1].startswith("retry: ")
        reading = asyncio.create_task(anext(body))
        done, _ = await asyncio.wait({reading}, timeout=0.5)  # five times as long as it takes to look
        assert not done
        await second.drain()
        assert (await reading).startswith("retry: ")


async def test_nothing_is_left_behind_when_nothing_is_served() -> None:
    handler = create_handler(small_server())
    async with served(handler.app) as (_, url):
        before = asyncio.all_tasks()
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await client.post("/mcp", json=_initialize("2025-11-25"), headers=_ACCEPT)

        async def quiet() -> bool:
            stopping = handler.app._stopping  # pyright: ignore[reportPrivateUsage]
            return stopping._timer is None and asyncio.all_tasks() <= before | {asyncio.current_task()}  # pyright: ignore[reportPrivateUsage, reportUnhashable]

        await eventually(quiet)
