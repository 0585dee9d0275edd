"""A container's connections: idle ones make room, slow ones are cut off, bytes on their way are bounded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

LONG = 32 * 1024 * 1024
CODE = """\
import resource, sys
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from mcp.server import MCPServer
from starlette.responses import PlainTextResponse
from tmcp_serverless import create_handler
from tmcp_serverless.hosts.container import serve
server = MCPServer("x")

@server.custom_route("/length", methods=["POST"])
async def length(request):
    return PlainTextResponse(str(len(await request.body())))

@server.custom_route("/hold", methods=["POST"])
async def hold(request):
    await request.body()
    print("holds", flush=True)
    while (await request.receive())["type"] != "http.disconnect":
        pass

@server.custom_route("/long", methods=["GET"])
async def long(_):
    return PlainTextResponse("x" * (32 * 1024 * 1024))

serve(create_handler(server, database_url="").app)
"""


class Container:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(sent)
        return connection

    def status(self, path: str = "/healthz") -> int:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20).status_code

    def hold(self, length: int) -> socket.socket:
        """Send a whole body to a route that does not answer; return when the route has it."""
        connection = self.connect(head("/hold", length) + b"x" * length)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "holds\n"
        return connection

    def initialize(self, length: int) -> httpx.Response:
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        return httpx.post(
            f"http://127.0.0.1:{self.port}/mcp", content=b" " * length, headers=headers, timeout=20
        )

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextmanager
def container(*, files: int = 0, **settings: object) -> Generator[Container]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port)}
    environment |= {f"TMCP_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-c", CODE, str(files)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            found, deadline = Container(process, port), time.monotonic() + 60
            while True:
                try:
                    assert found.status() == 200
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield found
        finally:
            process.kill()


def head(path: str, length: int) -> bytes:
    lines = f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {length}"
    return "\r\n".join((*lines, "\r\n")).encode()


def response(connection: socket.socket) -> bytes:
    """Return a response of `/healthz`."""
    data = b""
    while not data.endswith(b"}") and (piece := connection.recv(65536)):
        data += piece
    return data


def rest(connection: socket.socket) -> bytes:
    """Return all that arrives until the server closes the connection."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_idle_connections_beyond_the_descriptors_lock_nobody_out() -> None:
    with container(files=128) as found, ExitStack() as stack:
        idle = [stack.enter_context(found.connect()) for _ in range(200)]
        assert found.status() == 200
        assert rest(idle[0]) == b"", "the oldest has made room"
        assert found.process.poll() is None


def test_kept_connections_make_room_from_the_oldest() -> None:
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with container(max_connections=8) as found, ExitStack() as stack:
        kept: list[socket.socket] = []
        for _ in range(12):
            kept.append(stack.enter_context(found.connect(asked)))
            assert b"ok" in response(kept[-1])
        assert rest(kept[0]) == b""
        kept[-1].sendall(asked)
        assert b"ok" in response(kept[-1])


def test_a_connection_beyond_busy_ones_is_told_the_setting() -> None:
    with container(max_connections=8) as found, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(found.hold(10))
        answer = rest(stack.enter_context(found.connect()))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert b"TMCP_MAX_CONNECTIONS" in answer


def test_heads_and_bodies_that_do_not_come_end_their_connections() -> None:
    with container(client_seconds=0.5) as found:
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nHo", head("/length", 100) + b"x"):
            with found.connect(sent) as connection:
                assert rest(connection) == b""
        assert found.status() == 200


def test_a_few_bytes_now_and_then_are_no_progress() -> None:
    with container(client_seconds=0.5) as found, found.connect(head("/length", 10_000)) as connection:
        deadline = time.monotonic() + 60
        try:
            while True:
                assert time.monotonic() < deadline
                connection.sendall(b"x")
                time.sleep(0.05)
        except ConnectionError:
            pass


def test_a_long_body_that_makes_progress_is_read() -> None:
    pieces, piece = 30, b"x" * 65536
    sent = head("/length", pieces * len(piece))
    with container(client_seconds=2) as found, found.connect(sent) as connection:
        for _ in range(pieces):
            connection.sendall(piece)
            time.sleep(0.1)
        assert rest(connection).endswith(str(pieces * len(piece)).encode())


def test_a_plain_response_that_is_not_read_is_given_up() -> None:
    asked = b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with container(client_seconds=0.5) as found:
        before = found.open_files()
        with found.connect(asked) as connection:
            assert connection.recv(10)
            deadline = time.monotonic() + 60
            while found.open_files() > before:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert len(rest(connection)) < LONG


def test_a_body_beyond_the_bytes_in_flight_is_refused() -> None:
    with container(max_bytes_in_flight=1024 * 1024) as found:
        assert found.initialize(900_000).status_code == 400
        with found.hold(900_000):
            refused = found.initialize(900_000)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert "TMCP_MAX_BYTES_IN_FLIGHT" in refused.text
            assert found.initialize(1_000).status_code == 400, "small ones are taken"
        deadline = time.monotonic() + 60
        while found.initialize(900_000).status_code != 400:
            assert time.monotonic() < deadline, "its bytes are given back"


def test_a_body_that_stands_still_makes_room() -> None:
    sent = head("/length", 1_000_000) + b"x" * 900_000
    with container(max_bytes_in_flight=1024 * 1024) as found, found.connect(sent) as stalled:
        deadline = time.monotonic() + 60
        while (status := found.initialize(900_000).status_code) == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert status == 400
        assert rest(stalled) == b""
