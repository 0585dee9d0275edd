"""A sandbox: one process of the function. It runs during invocations, and is stopped in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from tmcp_serverless.cli.lambda_emulator.invocation import Failure
from tmcp_serverless.cli.lambda_emulator.runtime_server import RuntimeServer
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from tmcp_serverless.cli.lambda_emulator.function import Function
    from tmcp_serverless.cli.lambda_emulator.invocation import Invocation

__all__ = ["InitializationError", "Sandbox"]

_INIT_SECONDS = 10.0
"""The least time for initialization. Lambda repeats a longer one within the first invocation's time."""

_AGAIN = 20
"""Times that a process may ask for an invocation while it has an unanswered one."""

_SHUTDOWN_SECONDS = 0.5
"""Seconds that a process with an internal extension has after SIGTERM; a process without one has none."""


class InitializationError(TmcpError):
    """A sandbox did not come up; the client is told the `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"The function could not be initialized: {failure.message}")
        self.failure = failure


class Sandbox:
    """One process, and its Runtime API.

    Args:
        name: The sandbox's name in logs and headers.
        function: The function that runs in it.
        output: The descriptor for the process's output; `None` is our own output.
    """

    def __init__(self, name: str, function: Function, *, output: int | None = None) -> None:
        self.name = name
        self.frozen = False
        """True while the process is stopped."""

        self.served = 0
        """The number of invocations that it has been given."""

        self._function = function
        self._output = output
        self._server = RuntimeServer(self, handler=function.handler)
        self._process: asyncio.subprocess.Process | None = None
        self._exit: asyncio.Task[int] | None = None
        self._current: Invocation | None = None
        self._again = 0
        self._handed: asyncio.Queue[Invocation] = asyncio.Queue(1)
        self._asked = asyncio.Event()
        self._wants_sigterm = False
        self._ending = False
        self._init_failure: Failure | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def current(self) -> Invocation | None:
        """The invocation that it serves."""
        return self._current

    async def start(self) -> None:
        """Start the process, and return when it asks for its first invocation; it is frozen then.

        Raises:
            InitializationError: It did not get there within 10 seconds, or the function's timeout if longer.
        """
        address = await self._server.start()
        self._process = await asyncio.create_subprocess_exec(
            *self._function.command(),
            cwd=self._function.task_root,
            env=self._function.variables(address),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # A group of its own, so that its children are stopped, too. No session of its own, so that the
            # kernel ends a stopped group after its parent was killed (POSIX: orphaned process groups).
            process_group=0,
        )
        self._exit = asyncio.create_task(self._process.wait())
        seconds = max(_INIT_SECONDS, self._function.timeout_seconds)
        if not await self._asks_within(seconds):
            failure = self._init_failure or self._exit_failure(f"{seconds:.0f} seconds of init")
            await self.kill()
            raise InitializationError(failure)
        self.freeze()

    async def run(self, invocation: Invocation) -> None:
        """Have an invocation served. Afterwards the sandbox is frozen, or its process is no more."""
        self._current = invocation
        self.served += 1
        self._again = 0
        invocation.sandbox = self.name
        self._asked.clear()
        self.thaw()
        self._handed.put_nowait(invocation)
        if await self._asks_within(invocation.timeout_seconds):
            if not self._ending:
                self.freeze()
            # An invocation that has ended stays as it is.
            invocation.end(Failure.of("Runtime.NoAnswer", f"The runtime asked {_AGAIN} times for another"))
        else:
            seconds = f"Task timed out after {invocation.timeout_seconds:.2f} seconds"
            invocation.end(self._exit_failure(seconds))
            await self.kill()
        self._current = None

    def freeze(self) -> None:
        """Stop the process. In an invocation, this is like a host that stalls."""
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process go on."""
        self.frozen = False
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End the process by force."""
        self._signal(signal.SIGKILL)
        await self._gone()

    async def shut_down(self) -> None:
        """End the process as Lambda ends an idle sandbox: with SIGTERM if an extension is registered."""
        self._ending = True
        if self._wants_sigterm:
            self._signal(signal.SIGTERM)
            self.thaw()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHUTDOWN_SECONDS):
                    await self._gone()
        await self.kill()

    async def next(self) -> Invocation:
        """Return the process's next invocation.

        An unanswered invocation comes again, as on Lambda: there until its deadline, here 20 times.
        """
        open_one = self._current
        if open_one is not None and not open_one.ended and self._again < _AGAIN and self._handed.empty():
            self._again += 1
            return open_one
        self._asked.set()
        return await self._handed.get()

    def initialization_failed(self, failure: Failure) -> None:
        """Note that the process cannot go on."""
        self._init_failure = failure

    def extension_registered(self) -> None:
        """Note that the process wants SIGTERM."""
        self._wants_sigterm = True

    async def _asks_within(self, seconds: float) -> bool:
        """Wait until the process asks for an invocation. It may end first, or take too long."""
        assert self._exit is not None  # noqa: S101 - it was started
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({asked, self._exit}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        return self._asked.is_set() and not self._exit.done()

    def _exit_failure(self, otherwise: str) -> Failure:
        if self._exit is not None and self._exit.done():
            code = self._exit.result()
            how = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            return Failure.of("Runtime.ExitError", f"Runtime exited: {how}")
        return Failure.of("Sandbox.Timedout", otherwise)

    async def _gone(self) -> None:
        if self._exit is not None:
            await asyncio.shield(self._exit)
        await self._server.aclose()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
