"""Faults that the fuzzer has found, each with its input."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFUSED_AND_BROKEN = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
"""A request without a token, and behind its head bytes that are not HTTP."""


def log_after(data: bytes, folder: Path) -> str:
    """Send bytes to a container, wait until it closes the connection, and return the container's log."""
    principals = {"token": {"name": "alice", "marker": "marker"}}
    with (folder / "log").open("wb") as log:
        container = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.instance", "tests.fuzz.server", str(folder), "1"],
            cwd=ROOT,
            env={**os.environ, "FUZZ_PRINCIPALS": json.dumps(principals)},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    answer = b""
    try:
        assert container.stdout is not None
        port = int(container.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
            link.sendall(data)
            while received := link.recv(65_536):
                answer += received
        container.terminate()
        container.wait(60)
    finally:
        container.kill()
        container.communicate()
    assert answer.startswith(b"HTTP/1.1 400"), answer
    return (folder / "log").read_text()


@pytest.mark.slow
def test_a_request_whose_body_is_not_http_leaves_no_traceback(tmp_path: Path) -> None:
    """Authentication answers a client that the ASGI server has already refused."""
    log = log_after(REFUSED_AND_BROKEN, tmp_path)
    assert "Traceback" not in log
    assert "ASGI callable returned" not in log
