from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli import app as application
from tests.cli.support import LIMIT_SECONDS, lines, until
from tests.support import web
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.container import configure, serve

if TYPE_CHECKING:
    from pathlib import Path

CODE = """\
from tests.cli.app import app
from tmcp_serverless.hosts.container import serve

serve(app)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        return web.get(url).is_success
    except httpx.TransportError:
        return False


def test_it_listens_where_the_platform_says_and_ends_in_time_with_a_stream_open(tmp_path: Path) -> None:
    trace, port = tmp_path / "trace", free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PORT": str(port), "TRACE": str(trace)}
    with subprocess.Popen([sys.executable, "-c", CODE], env=environment) as process:
        until(lambda: answers(url))
        with web.stream("GET", f"{url}/stream", params={"file": str(tmp_path / "x")}) as response:
            assert response.headers.get("server") is None
            chunks = response.iter_text()
            assert next(chunks) == "data: first\n\n"
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_SECONDS)
            assert time.monotonic() - begun < 5
    assert lines(trace)[-1] == "shutdown"


@pytest.mark.parametrize("port", ["http", "-1", "65536", ""])
def test_a_port_that_is_none_is_an_error(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(ConfigurationError, match="PORT is"):
        serve(application.app)


def test_settings_of_uvicorn_can_be_overridden() -> None:
    config = configure(application.app, timeout_keep_alive=5, log_config=None)
    assert (config.timeout_keep_alive, config.timeout_graceful_shutdown) == (5, 3)
