"""One run of one PostgreSQL server: from its start until it answers, and its end."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tmcp_serverless.testing._binaries import running_as

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.testing._binaries import Account, Binaries

__all__ = ["FAST", "IMMEDIATE", "Postmaster", "free_port", "initialize"]

FAST = b"i"
"""Roll back running transactions, write everything out, and end (SIGINT)."""

IMMEDIATE = b"q"
"""Abort: the next start recovers, as after a crash (SIGQUIT)."""

_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
_INITDB_SECONDS = 60.0


class Postmaster:
    """A running server. A guard process starts it and outlives us, to end it and remove `folder`."""

    def __init__(
        self,
        binaries: Binaries,
        account: Account | None,
        *,
        folder: Path,
        port: int,
        settings: Mapping[str, str],
    ) -> None:
        command = [str(binaries.bin / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        order = {
            "command": command,
            "uid": account and account.uid,
            "gid": account and account.gid,
            "folder": str(folder),
        }
        guard = Path(__file__).with_name("_guard.py")
        with (folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(  # noqa: S603  # our own script
                [sys.executable, "-I", "-S", str(guard), json.dumps(order)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for us; the server ends after that
            )
        assert self._guard.stdout is not None
        self.port = port
        self.pid = int(self._guard.stdout.readline() or 0)

    def wait_until_it_answers(self) -> bool:
        """Return true when the server accepts connections, false when it ended or took over 15 seconds."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._guard.poll() is None:
            if _answers(self.port):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def end(self, how: bytes) -> None:
        """End the server, `FAST` or `IMMEDIATE`, and wait until it is gone. The data stay."""
        with self._guard as guard:  # closes the pipes at the end, which would make the guard abort the server
            assert guard.stdin is not None
            try:
                guard.stdin.write(how)
                guard.wait(_STOP_SECONDS)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                pass  # it has ended already, or will have to be aborted


def initialize(binaries: Binaries, account: Account | None, folder: Path) -> str | None:
    """Make a data directory in `folder`; return `None`, or the output of `initdb` if it failed."""
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    command = [
        *(str(binaries.bin / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust"),
        *("--no-sync", "--encoding=UTF8", f"--locale={locale}"),
    ]
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    done = subprocess.run(  # noqa: S603  # what list_binaries found
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        timeout=_INITDB_SECONDS,
        cwd="/",
        env=_environment(),
        **running_as(account),
    )
    return str(done.stdout) if done.returncode else None


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment() -> dict[str, str]:
    # Without PGDATA, PGOPTIONS and the like, and without the search for the name of the local time zone.
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**ours, "TZ": "UTC"}


def _answers(port: int) -> bool:
    """Ask as a client does: 'R' is the answer of a server that lets us in, 'E' of one still starting."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    startup = struct.pack("!II", len(parameters) + 8, 196608) + parameters
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(startup)
            answered = connection.recv(1) == b"R"
            connection.sendall(b"X\0\0\0\x04")
            return answered
    except OSError:
        return False
