"""The container: its Dockerfile carried out by hand, and the server that it starts, told to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.support import until
from tests.deploy import dockerfile
from tests.support import web

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef"
KILLED_AFTER_SECONDS = 10
"""Cloud Run sends SIGKILL so long after SIGTERM."""

HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "authorization": f"Bearer {TOKEN}",
}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    },
}


@contextmanager
def serving(
    command: list[str], folder: Path, database_url: str, **variables: str
) -> Generator[tuple[subprocess.Popen[bytes], str]]:
    """Run the container's command until the end of the block; yields the process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TMCP_", "PYTHON"))},
        "PORT": str(port),
        "TMCP_DATABASE_URL": database_url,
        "NOTES_TOKENS": f"ann:{TOKEN}",
        **variables,
    }
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or answers(f"{url}/healthz"), limit_seconds=60)
        yield process, url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return web.get(url).is_success
    except httpx.TransportError:
        return False


def session(url: str) -> dict[str, str]:
    """Return the headers of a request in a new session."""
    answer = web.post(f"{url}/mcp", json=INITIALIZE, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return {**HEADERS, "mcp-session-id": answer.headers["mcp-session-id"]}


def ends_in_time(process: subprocess.Popen[bytes], url: str) -> None:
    """Open streams, send SIGTERM, and see them and the process end."""
    with (
        web.stream("GET", f"{url}/mcp", headers=session(url)) as first,
        web.stream("GET", f"{url}/mcp", headers=session(url)) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)
        streams = [first.iter_text(), second.iter_text()]
        for stream in streams:
            assert next(stream)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert "".join(stream) is not None, "the stream ends as streams end, and is not cut"
        process.wait(KILLED_AFTER_SECONDS)
        assert time.monotonic() - begun < KILLED_AFTER_SECONDS / 2


def test_it_serves_is_ready_when_the_database_is_and_ends_in_time_with_streams_open(
    database_url: str,
) -> None:
    command = [sys.executable, "-m", "handlers.container"]
    with serving(command, ROOT, database_url) as (process, url):
        assert web.get(f"{url}/readyz").json() == {"status": "ready"}
        assert web.post(f"{url}/mcp", json=INITIALIZE, headers={**HEADERS, "authorization": ""}).is_error
        ends_in_time(process, url)


def test_it_lives_but_is_not_ready_without_its_database() -> None:
    command = [sys.executable, "-m", "handlers.container"]
    with serving(command, ROOT, "postgresql://127.0.0.1:1/nowhere") as (_, url):
        assert web.get(f"{url}/healthz").status_code == 200
        assert web.get(f"{url}/readyz").status_code == 503


def test_it_takes_browsers_and_hosts_that_are_listed_and_shows_them_every_mcp_header(
    database_url: str,
) -> None:
    command = [sys.executable, "-m", "handlers.container"]
    variables = {"TMCP_ALLOWED_HOSTS": "127.0.0.1:*", "TMCP_ALLOWED_ORIGINS": "https://app.example.com"}
    with serving(command, ROOT, database_url, **variables) as (_, url):
        page = {**HEADERS, "origin": "https://app.example.com"}
        answer = web.post(f"{url}/mcp", json=INITIALIZE, headers=page)
        assert answer.headers["access-control-allow-origin"] in ("*", "https://app.example.com")
        shown = answer.headers["access-control-expose-headers"].lower()
        assert {name for name in answer.headers if name.startswith("mcp-")} <= set(shown.split(", "))
        asked = {
            "origin": "https://app.example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": "mcp-session-id, mcp-method, last-event-id",
        }
        allowed = web.options(f"{url}/mcp", headers=asked)
        assert allowed.status_code == 200
        assert "mcp-method" in allowed.headers["access-control-allow-headers"].lower()
        evil = {**HEADERS, "origin": "https://evil.example"}
        assert web.post(f"{url}/mcp", json=INITIALIZE, headers=evil).status_code == 403
        other = {**HEADERS, "host": "other.example"}
        assert web.post(f"{url}/mcp", json=INITIALIZE, headers=other).status_code == 421
        assert web.get(f"{url}/healthz", headers={"host": "probe"}).status_code == 200


def test_nobody_is_root_in_the_image_and_sigterm_reaches_the_server() -> None:
    build, final = dockerfile.read(ROOT / "Dockerfile")
    assert build.image.partition(" AS ")[0] == final.image
    assert final.image.endswith("-slim")
    [user] = final.all("USER")
    assert user.isdecimal()
    assert int(user) > 0
    assert final.instructions.index(("USER", user)) < final.instructions.index(("CMD", final.all("CMD")[0]))
    assert final.command() == ["python", "-m", "handlers.container"]


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    build, _ = dockerfile.read(ROOT / "Dockerfile")
    sources = {source for argument in build.all("COPY") for source in argument.split()[:-1]}
    assert {source for source in sources if dockerfile.ignored(source, patterns)} == set()
    assert all((ROOT / source).exists() for source in sources)
    for path in (".git/config", ".venv/pyvenv.cfg", "tests/conftest.py", "handlers/__pycache__/x.pyc"):
        assert dockerfile.ignored(path, patterns), path
    assert not dockerfile.ignored("tmcp_serverless/sdk/kernel.py", patterns)


@pytest.mark.slow
def test_what_the_dockerfile_installs_is_enough_to_serve(tmp_path: Path, database_url: str) -> None:
    build, final = dockerfile.read(ROOT / "Dockerfile")
    dockerfile.copy(build, context=ROOT, root=tmp_path, python=sys.executable)
    app = tmp_path / "app"
    assert not (app / "handlers" / "Makefile").exists()
    sources = list((app / "handlers").rglob("*.py"))
    tag = sys.implementation.cache_tag
    assert all((path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").exists() for path in sources)
    python, *arguments = final.command()
    command = [str(app / ".venv" / "bin" / python), *arguments]
    with serving(command, app, database_url) as (process, url):
        assert web.get(f"{url}/readyz").status_code == 200
        ends_in_time(process, url)
    # What the guide's jobs run.
    variables = {"TMCP_DATABASE_URL": database_url, "PATH": "/usr/bin:/bin"}
    tool = app / ".venv" / "bin" / "tmcp-serverless"
    said = [
        subprocess.check_output([tool, name], env=variables, text=True, timeout=100)
        for name in ("migrate", "sweep")
    ]
    assert said == ["Everything is up to date.\n", "Removed 0 rows.\n"]
