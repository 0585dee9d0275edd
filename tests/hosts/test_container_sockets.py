"""A container's sockets: descriptors that run out, and both address families."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tmcp_serverless import ConfigurationError
from tmcp_serverless.hosts.listening import listen
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

LIMIT = 128
CODE = """\
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from mcp.server import MCPServer
from tmcp_serverless import create_handler
from tmcp_serverless.hosts.container import serve
server = MCPServer("x")

@server.custom_route("/limit", methods=["GET"])
async def limit(_):
    from starlette.responses import PlainTextResponse
    return PlainTextResponse(str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))

serve(create_handler(server, database_url="").app)
"""


@contextmanager
def container(soft: int, hard: int) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port)}
    command = [sys.executable, "-c", CODE, str(soft), str(hard)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            answered(port, seconds=60)
            yield process, port
        finally:
            process.kill()


def answered(port: int, *, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/limit", timeout=5).text
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_container_out_of_descriptors_answers_again() -> None:
    with container(LIMIT, LIMIT) as (process, port), ExitStack() as stack:
        for _ in range(LIMIT + 50):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        deadline = time.monotonic() + 60
        reserve = LIMIT // 8
        while open_files(process.pid) < LIMIT - reserve - 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert open_files(process.pid) <= LIMIT - reserve + 3, "some are left for the database and for files"
        stack.close()
        assert answered(port, seconds=60) == str(LIMIT)
        assert process.poll() is None


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_the_soft_limit_becomes_the_hard_one() -> None:
    hard = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with container(LIMIT, hard) as (_, port):
        assert answered(port, seconds=60) == str(hard)


@pytest.mark.parametrize("host", ["", "*", "::", "localhost"])
def test_a_host_is_reached_over_both_families(host: str) -> None:
    listeners = listen(host, 0)
    try:
        port = listeners[0].getsockname()[1]
        for each in listeners:
            each.listen()
        families = {each.family for each in listeners}
        assert socket.AF_INET in families
        if host != "localhost":  # the name may have one address
            assert socket.AF_INET6 in families
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            if family in families:
                socket.create_connection((address, port), timeout=10).close()
    finally:
        for each in listeners:
            each.close()


def test_an_address_is_its_own_family_alone() -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener:
        assert listener.family == socket.AF_INET


def test_a_port_that_is_taken_is_named() -> None:
    (first,) = listen("127.0.0.1", 0)
    with first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigurationError, match="nowhere"):
        listen("nowhere.invalid", 0)
