"""SnapStart: what is in the snapshot, what is not, and AWS's own runtime that takes it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from mcp.server import MCPServer

from tests.hosts.recorded import HEADERS, function_url
from tests.support.servers import small_server
from tests.test_imports import modules_after
from tmcp_serverless import create_handler
from tmcp_serverless.hosts import snapstart

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

hooks = pytest.importorskip("snapshot_restore_py", reason="a part of AWS's runtime")

ROOT = Path(__file__).parents[2]
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    },
}


@pytest.fixture
def _no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered yet, whatever else was imported in this process."""
    monkeypatch.setattr(hooks, "_before_snapshot_registry", [])
    monkeypatch.setattr(hooks, "_after_restore_registry", [])


async def backends(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


def test_no_connection_is_held_over_a_snapshot_and_the_server_works_after_it(
    database_url: str, sandbox_loop: asyncio.AbstractEventLoop
) -> None:
    entered: list[str] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer[asyncpg.Connection]) -> AsyncGenerator[asyncpg.Connection]:
        connection = await asyncpg.connect(database_url)
        entered.append("in")
        yield connection
        entered.append("out")
        await connection.close()

    server = MCPServer("s", lifespan=lifespan, log_level="ERROR")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    handler = create_handler(server, database_url=database_url)
    snapstart.before_snapshot(handler)
    assert entered == ["in", "out"]
    assert sandbox_loop.run_until_complete(backends(database_url)) == 0
    event = function_url("POST", HEADERS, json.dumps(INITIALIZE))
    answer = handler(event, None)
    assert answer["statusCode"] == 200, answer
    assert entered == ["in", "out", "in"]
    sandbox_loop.run_until_complete(handler.aclose())


def test_priming_asks_no_database_for_anything(sandbox_loop: asyncio.AbstractEventLoop) -> None:
    handler = create_handler(small_server(), database_url="postgresql://nowhere.invalid/x")
    snapstart.before_snapshot(handler)
    sandbox_loop.run_until_complete(handler.aclose())


PRIMED = """\
from tests.support.servers import small_server
from tmcp_serverless import create_handler
from tmcp_serverless.hosts import snapstart

handler = create_handler(small_server(), database_url="postgresql://nowhere.invalid/x")
{priming}
"""


def test_what_a_first_request_needs_is_imported_before(empty_database_url: str) -> None:
    serving = (
        "import json\nfrom tests.hosts.recorded import HEADERS, function_url\n"
        "from tests.hosts.test_snapstart import INITIALIZE\n"
        "event = function_url('POST', HEADERS, json.dumps(INITIALIZE))\n"
        f"handler = create_handler(small_server(), database_url={empty_database_url!r})\n"
        "assert handler(event, None)['statusCode'] == 200\n"
    )
    primed = modules_after(PRIMED.format(priming="snapstart.before_snapshot(handler)"))
    served = modules_after(PRIMED.format(priming=serving))
    assert {
        name for name in served - primed if name.partition(".")[0] in ("mcp", "tmcp_serverless", "mangum")
    } == set()


def test_random_numbers_are_new_after_each_restore() -> None:
    state = random.getstate()
    drawn: list[float] = []
    for _ in range(3):
        random.setstate(state)
        snapstart.after_restore()
        drawn.append(random.random())  # noqa: S311 - it is what is looked at
    random.setstate(state)
    assert len({*drawn, random.random()}) == 4  # noqa: S311 - the same


def test_a_server_that_cannot_be_primed_is_published_all_the_same(
    sandbox_loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def lifespan(_: MCPServer[None]) -> AsyncGenerator[None]:
        raise ConnectionRefusedError
        yield

    handler = create_handler(
        MCPServer("s", lifespan=lifespan, log_level="ERROR"), database_url="postgresql://nowhere.invalid/x"
    )
    snapstart.before_snapshot(handler)
    assert "could not be primed" in caplog.text
    sandbox_loop.run_until_complete(handler.aclose())


@pytest.mark.usefixtures("_no_hooks")
def test_the_hooks_are_registered_where_there_are_some() -> None:
    handler = create_handler(small_server(), database_url="postgresql://nowhere.invalid/x")
    assert snapstart.register(handler)
    assert hooks.get_before_snapshot() == [(snapstart.before_snapshot, (handler,), {})]
    assert hooks.get_after_restore() == [(snapstart.after_restore, (), {})]


@pytest.mark.usefixtures("_no_hooks")
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", None)
    handler = create_handler(small_server(), database_url="postgresql://nowhere.invalid/x")
    assert not snapstart.register(handler)


class RuntimeApi(ThreadingHTTPServer):
    """Hands out one event after a restore, and keeps what was answered."""

    daemon_threads = True

    def __init__(self, event: Any, *, at_snapshot: Callable[[], None]) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeHandler)
        self.event = json.dumps(event).encode()
        self.at_snapshot = at_snapshot
        self.handed_out = False
        self.calls: list[str] = []
        self.answered = threading.Event()
        self.answer: Any = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to say: the process is ended in the middle of a request."""


class _RuntimeHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApi  # pyright: ignore[reportIncompatibleVariableOverride] - it is what we are made by

    def do_GET(self) -> None:
        self.server.calls.append(self.path.rpartition("runtime/")[2])
        if self.path.endswith("/restore/next"):
            self.server.at_snapshot()
            self._respond(200, b"")
        elif self.server.handed_out:
            self.server.answered.wait(20)  # until the test ends the process
        else:
            self.server.handed_out = True
            self._respond(200, self.server.event)

    def do_POST(self) -> None:
        self.server.calls.append(self.path.rpartition("runtime/")[2])
        self.server.answer = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._respond(202, b"{}")
        self.server.answered.set()

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": "id",
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() + 30) * 1000),
            "Lambda-Runtime-Invoked-Function-Arn": "arn",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextmanager
def restored(event: Any, *, at_snapshot: Callable[[], None], **variables: str) -> Generator[RuntimeApi]:
    """Run the deployed buffered handler under AWS's own runtime, as a function with SnapStart."""
    api = RuntimeApi(event, at_snapshot=at_snapshot)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "PYTHONPATH": str(ROOT),
        "LAMBDA_TASK_ROOT": str(ROOT),
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "awslambdaric", "handlers.buffered.handler"], cwd=ROOT, env=environment
    )
    try:
        yield api
    finally:
        process.kill()
        process.wait()
        api.shutdown()
        api.server_close()


@pytest.mark.skipif(sys.platform != "linux", reason="awslambdaric is for Linux")
def test_under_awss_own_runtime_the_snapshot_holds_no_connection_and_the_copy_serves(
    database_url: str,
) -> None:
    held: list[int] = []
    event = function_url("POST", HEADERS, json.dumps(INITIALIZE))
    with restored(
        event,
        at_snapshot=lambda: held.append(asyncio.run(backends(database_url))),
        TMCP_DATABASE_URL=database_url,
        NOTES_TOKENS="open",
    ) as api:
        assert api.answered.wait(20)
        assert api.calls[:3] == ["restore/next", "invocation/next", "invocation/id/response"]
        assert held == [0]
        assert api.answer["statusCode"] == 200
        assert json.loads(api.answer["body"])["result"]["serverInfo"]["name"] == "notes"
