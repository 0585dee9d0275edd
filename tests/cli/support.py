"""What the tests of real processes share."""

from __future__ import annotations

import asyncio
import atexit
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cli.forking import Commands

if TYPE_CHECKING:
    from collections.abc import Callable

APP = f"{Path(__file__).with_name('app.py')}:app"
LIMIT_SECONDS = 120.0
_commands = Commands()
atexit.register(_commands.close)


def until(condition: Callable[[], Any], *, limit_seconds: float = LIMIT_SECONDS) -> Any:
    """Return what the condition returns, as soon as that is true."""
    deadline = time.monotonic() + limit_seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {limit_seconds} s: {condition}"
        time.sleep(0.01)
    return result


def lives(pid: int) -> bool:
    """Return whether the process runs: one that has ended is there until its parent, or init, has looked."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def command(*arguments: str, folder: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """Run `tmcp-serverless` in a process of its own, as a shell would, without a configured database."""
    code = "from tmcp_serverless.cli import main; main()"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TMCP_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**inherited, "PYTHONUNBUFFERED": "1", **env},
    )


def run(*arguments: str, folder: Path | None = None, **env: str) -> tuple[int, str, str]:
    """Run `tmcp-serverless` to its end, and return its exit code, output and errors.

    The process is a fork of one that has imported the package: `command` starts a new interpreter.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TMCP_")}
    given = {**inherited, **env}
    return _commands.run(*arguments, folder=folder, env=given, limit_seconds=LIMIT_SECONDS)


async def run_aside(*arguments: str, folder: Path | None = None, **env: str) -> tuple[int, str, str]:
    """Do what `run` does, in a thread: the test's own loop goes on, and its leases with it."""
    return await asyncio.to_thread(run, *arguments, folder=folder, **env)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of a command, and return its exit code, output and errors."""
    output, errors = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, output, errors
