"""A headless Chromium, pages of several origins for it, and containers that serve the kit."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cli.support import until
from tests.support import web
from tests.support.node import NoNodeError, find_node, install
from tmcp_serverless.testing._postmaster import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

PAGE = Path(__file__).with_name("page")
HTML = '<!doctype html><meta charset="utf-8"><title>page</title><script>{script}</script>'
OLDEST_NODE = 20
INSTALL_SECONDS = 200
FLAGS = [
    # The browser's own guard of local addresses would hide the server's. A page's DevTools do not see the
    # requests of a frame that has a process of its own.
    "--disable-features=LocalNetworkAccessChecks,IsolateSandboxedIframes",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
]


@dataclass(frozen=True)
class Visit:
    """The result of a page's function, and the requests that the browser made: method, path and status."""

    result: Any
    seen: list[tuple[str, int]]

    def statuses(self, method: str, path: str = "/mcp") -> list[int]:
        return [status for request, status in self.seen if request == f"{method} {path}"]


class Browser:
    """A Chromium that `page/drive.mjs` drives through the DevTools protocol. It runs one page at a time."""

    def __init__(self, process: subprocess.Popen[str], pages: Pages) -> None:
        self._process = process
        self.pages = pages
        self.version: str = self._read()["version"]

    async def run(
        self, name: str, *args: str, page: str, cut: Callable[[], Awaitable[None]] | None = None, **more: Any
    ) -> Visit:
        """Open a page, and run a function of it, which may ask for cuts of the network."""
        self._write({"page": page, "run": name, "args": args, **more})
        while "do" in (line := await asyncio.to_thread(self._read)):
            assert cut is not None
            await cut()
            self._write({})
        seen = [(request, status) for request, status in line["seen"]]
        assert "failed" not in line, (line["failed"], seen)
        return Visit(line.get("result"), seen)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the driver ended with status {self._process.wait()}")
        return json.loads(line)


class Pages:
    """A web server. Each name below `.localhost` is an origin of its own, and each has the same page."""

    def __init__(self, script: str) -> None:
        self.html = HTML.format(script=script.replace("</script", "<\\/script"))
        body = self.html.encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def origin(self, name: str) -> str:
        return f"http://{name}.localhost:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    try:
        node = find_node(oldest_major=OLDEST_NODE)
        install(PAGE, seconds=INSTALL_SECONDS)
    except NoNodeError as error:
        pytest.skip(str(error))
    pages = Pages(bundled(tmp_path_factory.mktemp("page") / "page.js"))
    with subprocess.Popen(
        [node, "drive.mjs", chromium, *FLAGS],
        cwd=PAGE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Browser(process, pages)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
            pages.close()


def bundled(script: Path) -> str:
    """Return the page's script, in one piece with the client."""
    esbuild = PAGE / "node_modules" / ".bin" / "esbuild"
    command = [esbuild, "page.mjs", "--bundle", "--format=iife", "--target=chrome110", f"--outfile={script}"]
    subprocess.run([*command, "--log-level=error"], cwd=PAGE, check=True, timeout=INSTALL_SECONDS)
    return script.read_text()


@contextmanager
def containers(module: str, database_url: str, *, count: int, **variables: str) -> Generator[list[int]]:
    """Run a server in so many containers, and yield their ports when each is ready."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TMCP_")}
    environment = {**inherited, "TMCP_DATABASE_URL": database_url, **variables}
    ports = [free_port() for _ in range(count)]
    with ExitStack() as stack:
        for port in ports:
            process = subprocess.Popen([sys.executable, "-m", module], env={**environment, "PORT": str(port)})
            stack.callback(process.wait)
            stack.callback(process.kill)
        for port in ports:
            until(lambda port=port: is_ready(port), limit_seconds=60)
        yield ports


def is_ready(port: int) -> bool:
    try:
        return web.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.TransportError:
        return False
