"""Commands run by forking a process that has imported the package: no command pays for that again.

`Commands` is the side of the tests. As a program the module is the forking process: it reads a command from
each line, and prints its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.support.processes import serving_everybody

__all__ = ["Commands"]

_IMPORTED = ("tmcp_serverless.cli", "tmcp_serverless.postgres")
"""The packages whose modules commands import when they are called."""


class Commands:
    """Runs commands one after another, each in a process of its own that was forked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking: subprocess.Popen[str] | None = None

    def run(
        self, *arguments: str, folder: Path | None, env: dict[str, str], limit_seconds: float
    ) -> tuple[int, str, str]:
        """Return the exit code of a command, its output and its errors.

        Raises:
            TimeoutError: The command has not ended in time. It is killed.

        """
        sys.audit("os.fork")  # For `tests.support.processes`: the test has started a process.
        with self._lock, tempfile.TemporaryDirectory() as name:
            forking = self._forking = self._forking or _start()
            output, errors = Path(name, "output"), Path(name, "errors")
            asked: dict[str, Any] = {"arguments": arguments, "folder": str(folder or Path.cwd()), "env": env}
            asked |= {"files": [str(output), str(errors)]}
            code = self._ask(forking, json.dumps(asked), limit_seconds)
            return code, output.read_text(), errors.read_text()

    def close(self) -> None:
        """End the forking process."""
        if self._forking is not None:
            self._forking.communicate(timeout=60)
            self._forking = None

    def _ask(self, forking: subprocess.Popen[str], line: str, limit_seconds: float) -> int:
        assert forking.stdin
        assert forking.stdout
        watch = threading.Timer(limit_seconds, os.killpg, (forking.pid, 9))
        watch.start()
        try:
            forking.stdin.write(f"{line}\n")
            forking.stdin.flush()
            answer = forking.stdout.readline()
        finally:
            watch.cancel()
        if not answer:
            self.close()
            raise TimeoutError(f"a command has not ended within {limit_seconds} s")
        return int(answer)


def _start() -> subprocess.Popen[str]:
    with serving_everybody():
        return subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )


def _fork(asked: dict[str, Any]) -> bool:
    """Fork, and report the child's exit code. Returns whether this process is the child."""
    sys.stdout.flush()
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        return False
    for descriptor, path in enumerate([os.devnull, *asked["files"]]):
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv[1:] = asked["arguments"]
    return True


def _main() -> None:
    for name in _IMPORTED:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    from tmcp_serverless.cli import main

    for line in sys.stdin:
        if _fork(json.loads(line)):
            main()


if __name__ == "__main__":
    _main()
