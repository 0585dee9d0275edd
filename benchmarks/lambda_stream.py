"""From a send to the bytes at the client of a streaming sandbox, and of uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.asgi import PROTOCOL_VERSION, Client
from benchmarks.database import fresh_database
from benchmarks.row import NotMeasuredError, Row
from benchmarks.samples import interleave
from benchmarks.setting import running_handler, sending, streams_manager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.samples import Operation
    from benchmarks.setting import Setting

__all__ = ["measure_lambda_delivery"]

_ROOT = Path(__file__).parent.parent
_LIMIT_SECONDS = 5.0
_START_SECONDS = 30.0
_UVICORN = (
    "from benchmarks.served import handler; from tmcp_serverless.hosts.container import serve;"
    " serve(handler.app, host='127.0.0.1', port={port}, log_level='warning')"
)
_LAMBDA = (
    "import sys; from tmcp_serverless.cli import main; sys.argv[1:] = ['dev', 'benchmarks.served:handler',"
    " '--lambda', '--timeout', '900', '--port', '{port}', '--database-url', '{url}']; main()"
)


async def measure_lambda_delivery(setting: Setting) -> list[Row]:
    """Compare the emulator's front door and sandbox with uvicorn: each in processes of its own."""
    async with (
        fresh_database(setting.server_url) as url,
        _received_from(_UVICORN, url) as uvicorn,
        _received_from(_LAMBDA, url) as ours,
    ):
        samples = await interleave(
            {"uvicorn": uvicorn, "ours": ours}, rounds=setting.rounds, calls=50, warm_up=100
        )
    name = "send → bytes at the client of a streaming sandbox, to uvicorn"
    return [Row.of_medians(name, samples, reference="uvicorn", goal=2)]


@asynccontextmanager
async def _received_from(program: str, url: str) -> AsyncGenerator[Operation]:
    """Yield what sends with a manager of this process, and ends where a client of the program hears it."""
    async with running_handler(url) as app:
        client = Client(app)
        await client.initialize()
    async with (
        _program(program, url) as port,
        streams_manager(url) as elsewhere,
        _listening(port, client.session_id) as stream,
    ):
        yield sending(elsewhere, client.session_id, stream)


@asynccontextmanager
async def _program(program: str, url: str) -> AsyncGenerator[int]:
    """Run a program, and yield the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-c", program.format(port=port, url=url)],
        cwd=_ROOT,
        env={**os.environ, "BENCH_DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _answers(port):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        yield port
    except TimeoutError:
        raise NotMeasuredError("the program did not start") from None
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
    status = await reader.readline()
    writer.close()
    return b" 200 " in status


@asynccontextmanager
async def _listening(port: int, session_id: str) -> AsyncGenerator[_Stream]:
    """Open the session's standalone stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        (
            f"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n"
            f"mcp-session-id: {session_id}\r\nmcp-protocol-version: {PROTOCOL_VERSION}\r\n\r\n"
        ).encode()
    )
    status = await reader.readline()
    if b" 200 " not in status:
        raise NotMeasuredError(f"the stream did not open: {status!r}")
    stream = _Stream(reader)
    reading = asyncio.create_task(stream.read())
    try:
        yield stream
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        writer.close()


class _Stream:
    """The client's end: bytes of HTTP, not taken apart."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._awaited: tuple[bytes, asyncio.Future[float]] | None = None

    def awaiting(self, needle: bytes) -> asyncio.Future[float]:
        """Return when, by `time.perf_counter`, bytes that contain the needle arrive."""
        arrival: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._awaited = (needle, arrival)
        return arrival

    async def read(self) -> None:
        while data := await self._reader.read(65_536):
            if self._awaited is not None and self._awaited[0] in data:
                arrival, self._awaited = self._awaited[1], None
                arrival.set_result(time.perf_counter())
