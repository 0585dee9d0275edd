"""pgbouncer in transaction mode, for the time of a run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tmcp_serverless.testing._binaries import Account, running_as, unprivileged_account
from tmcp_serverless.testing._postmaster import free_port

__all__ = ["Pooler", "find_pooler"]

_START_SECONDS = 5.0
_STOP_SECONDS = 5.0
_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 10
max_client_conn = 400
logfile = {folder}/log
server_login_retry = 1
"""


def find_pooler() -> str | None:
    """Return where pgbouncer is, if it is installed (Debian: `apt-get install pgbouncer`)."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def _start(program: str, configuration: Path, account: Account | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program, str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        text=True,
        **running_as(account),
    )


class Pooler:
    """pgbouncer on a free port of the loopback interface, in front of a Postgres on `target_port`."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        program = find_pooler()
        if program is None:
            raise FileNotFoundError("pgbouncer is not installed")
        self._folder = Path(tempfile.mkdtemp(prefix="tmcp-pgbouncer-"))
        self.port = free_port()
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(target=self._target, port=self.port, folder=self._folder)
        )
        (self._folder / "users").write_text('"postgres" ""\n')
        account = unprivileged_account()
        if account is not None:
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, account.uid, account.gid)
        self._process = _start(program, configuration, account)
        await self._wait_until_it_listens()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait, _STOP_SECONDS)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _wait_until_it_listens(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return
