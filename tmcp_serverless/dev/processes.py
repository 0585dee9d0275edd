"""The processes of a cluster: started, watched, replaced when they die, and ended; and their output."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tmcp_serverless.dev.control import KILL_SECONDS, Order, read_report
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["ClusterError", "Fleet", "Instance", "Output", "Surroundings"]

_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 30.0
_BACKOFF_SECONDS = 0.5


class ClusterError(TmcpError):
    """The cluster does not start, or not any more. The message names the instance, and has its last words."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment of the instances' processes."""

    environment: Mapping[str, str]
    folder: Path | None
    output: int | None
    """The descriptor for their output; None is our own output."""

    start_seconds: float


@dataclass(slots=True)
class Instance:
    """One process that serves, and its successors of the same name."""

    order: Order
    process: asyncio.subprocess.Process | None = None
    port: int | None = None
    """The port on 127.0.0.1; None while it does not listen."""

    path: str = ""
    """The path of the MCP endpoint, if the application names it."""

    starts: list[float] = field(default_factory=list)
    control: socket.socket | None = None

    @property
    def name(self) -> str:
        """The instance's name in the cluster."""
        return self.order.name

    @property
    def pid(self) -> int | None:
        """The process id, while it lives."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, surroundings: Surroundings) -> None:
        """Start a process, and return when it listens.

        Raises:
            ClusterError: It did not get there.

        """
        self.control, theirs = socket.socketpair()
        self.control.setblocking(False)
        with theirs:
            order = replace(self.order, control=theirs.fileno())
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tmcp_serverless.dev.instance", order.to_json()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=surroundings.output,
                stderr=surroundings.output,
                cwd=surroundings.folder,
                env=surroundings.environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C in a terminal is for the cluster, which ends us in order
            )
        try:
            async with asyncio.timeout(surroundings.start_seconds):
                report = await read_report(self.control)
        except TimeoutError:
            raise ClusterError(
                f"Instance {self.name} was not ready after {surroundings.start_seconds:g} seconds."
            ) from None
        if report is None:
            raise ClusterError(f"Instance {self.name} ended before it was ready ({await self.wait()}).")
        if report.error:
            raise ClusterError(report.error)
        self.port, self.path = report.port, report.path

    async def wait(self) -> str:
        """Wait until the process has ended, and return its exit code or signal as text."""
        code = 0 if self.process is None else await self.process.wait()
        self.forget()
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def forget(self) -> None:
        """Close the resources of an ended process; its forked children end with that."""
        self.port = None
        if self.control is not None:
            self.control.close()
            self.control = None

    def send(self, number: int) -> None:
        """Send a signal: SIGTERM and SIGINT to the process, any other to its forked children, too."""
        if (pid := self.pid) is None:
            return
        try:
            if number in (signal.SIGTERM, signal.SIGINT):
                os.kill(pid, number)
            else:
                os.killpg(pid, number)
        except ProcessLookupError:
            return

    async def end(self) -> None:
        """End the process with SIGTERM, and by force if it is still there afterwards."""
        if self.process is not None:
            self.send(signal.SIGTERM)
            try:
                async with asyncio.timeout(KILL_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.send(signal.SIGKILL)
                await self.process.wait()
        self.forget()


class Fleet:
    """All instances of a cluster."""

    def __init__(
        self, order: Order, count: int, surroundings: Surroundings, *, say: Callable[[str], None]
    ) -> None:
        self.instances = {name: Instance(replace(order, name=name)) for name in map(str, range(1, count + 1))}
        self._surroundings = surroundings
        self._say = say

    def ports(self) -> list[int]:
        """Return the ports that accept connections."""
        return [each.port for each in self.instances.values() if each.port is not None]

    async def start(self) -> None:
        """Start all, side by side; raise the error of the first that failed."""
        starting = [each.start(self._surroundings) for each in self.instances.values()]
        for result in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def keep(self, instance: Instance) -> None:
        """Replace an instance each time it ends, until it has ended too often in too short a time.

        Raises:
            ClusterError: It has.
        """
        loop = asyncio.get_running_loop()
        while True:
            how = await instance.wait()
            recent = [each for each in instance.starts if each > loop.time() - _RESTART_WINDOW_SECONDS]
            if len(recent) >= _RESTARTS:
                raise ClusterError(f"Instance {instance.name} keeps ending ({how}).")
            self._say(f"Instance {instance.name} has ended ({how}); starting another.")
            await asyncio.sleep(_BACKOFF_SECONDS * len(recent))
            instance.starts = [*recent, loop.time()]
            await self._restart(instance)

    async def _restart(self, instance: Instance) -> None:
        try:
            await instance.start(self._surroundings)
        except (ClusterError, OSError) as error:  # no process can be started without descriptors
            self._say(str(error))
            instance.send(signal.SIGKILL)

    async def end(self) -> None:
        """End all, side by side, within 4 seconds."""
        await asyncio.gather(*(each.end() for each in self.instances.values()))


class Output:
    """Output of all processes: a nameless temporary file that is gone with the last process that holds it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="tmcp-cluster-", buffering=0)  # noqa: SIM115 - until close()
        self._kept = ""

    @property
    def descriptor(self) -> int:
        """The descriptor that a process gets as its standard output."""
        return self._file.fileno()

    def write(self, line: str) -> None:
        """Add a line of our own."""
        self._file.write(f"{line}\n".encode())

    def text(self) -> str:
        """Return everything written so far, or until it was closed."""
        if self._file.closed:
            return self._kept
        # Not read(): all processes that write share one position with us, and it has to stay at the end.
        size = os.fstat(self.descriptor).st_size
        return os.pread(self.descriptor, size, 0).decode(errors="replace")

    def close(self) -> None:
        """Close the file, and keep its text. Idempotent."""
        self._kept = self.text()
        self._file.close()
