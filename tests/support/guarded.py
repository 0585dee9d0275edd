"""A Postgres that asks who is there: passwords, TLS with a certificate of a CA of its own, a unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
import pytest
import trustme

from tmcp_serverless.testing.postgres import EmbeddedPostgres, list_binaries

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["GuardedPostgres", "guarded_postgres"]

_RULES = """\
hostnossl all   postgres 127.0.0.1/32 trust
hostssl   all   robot    127.0.0.1/32 cert
hostssl   all   all      127.0.0.1/32 scram-sha-256
hostnossl all   plain    127.0.0.1/32 scram-sha-256
local     all   all                   scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class GuardedPostgres:
    """`robot` comes with a certificate, `plain` may come without TLS, everybody else has to have it."""

    postgres: EmbeddedPostgres
    folder: Path
    """Holds `ca.pem`, another CA as `other.pem`, and the robot's `robot.pem` and `robot.key`."""

    socket: Path
    """The folder of the unix socket; its name has colons in it, as those of Cloud SQL have."""

    async def execute(self, sql: str) -> Any:
        """Run a statement as the superuser."""
        connection = await asyncpg.connect(self.postgres.dsn, ssl=False)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def add_user(self, name: str, password: str) -> None:
        """Make a role that may log in, or change its password."""
        await self.execute(
            f"DO $do$ BEGIN CREATE ROLE \"{name}\" LOGIN SUPERUSER PASSWORD '{password}'; "
            f"EXCEPTION WHEN duplicate_object THEN ALTER ROLE \"{name}\" PASSWORD '{password}'; END $do$"
        )

    def url(self, user: str, password: str = "", *, host: str = "localhost", **query: str) -> str:
        """Return a connection string."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"postgresql://{login}@{host}:{self.postgres.port}/postgres?{text}"


@contextmanager
def guarded_postgres() -> Generator[GuardedPostgres]:
    # In the shortest place there is: the path of a socket has 107 characters at the most.
    folder = Path(tempfile.mkdtemp(prefix="tmcp-"))
    socket = folder / "project:region:instance"
    socket.mkdir()
    for path in (folder, socket):
        path.chmod(0o777)
    try:
        settings = {"unix_socket_directories": str(socket)}
        with EmbeddedPostgres(version=_with_tls(), durable=False, settings=settings) as postgres:
            _guard(postgres, folder)
            yield GuardedPostgres(postgres, folder, socket)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_tls() -> int:
    """Return the newest version on this machine that was built with TLS: the wheel's is not."""
    for binaries in sorted(list_binaries(), key=lambda each: each.major, reverse=True):
        program = binaries.bin / "pg_config"
        if program.exists() and b"openssl" in subprocess.check_output([program, "--configure"]):
            return binaries.major
    pytest.skip("no PostgreSQL with TLS on this machine (Debian: apt-get install postgresql)")


def _guard(postgres: EmbeddedPostgres, folder: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    robot = authority.issue_cert("robot.example", common_name="robot")
    robot.cert_chain_pems[0].write_to_path(folder / "robot.pem")
    robot.private_key_pem.write_to_path(folder / "robot.key")
    assert postgres.folder is not None
    data = postgres.folder / "data"
    server = authority.issue_cert("localhost")
    server.cert_chain_pems[0].write_to_path(data / "server.crt")
    server.private_key_pem.write_to_path(data / "server.key")
    authority.cert_pem.write_to_path(data / "ca.crt")
    (data / "pg_hba.conf").write_text(_RULES)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_ca_file = 'ca.crt'\n")
    owner = data.stat()
    for name in ("server.crt", "server.key", "ca.crt", "pg_hba.conf"):
        (data / name).chmod(0o600)
        os.chown(data / name, owner.st_uid, owner.st_gid)
    postgres.restart()
