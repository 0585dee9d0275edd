"""The emulator: a front door on a port, and the sandboxes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from tmcp_serverless.dev.balancer import listen, url_of
from tmcp_serverless.dev.lambda_emulator.events import FRONT_DOORS
from tmcp_serverless.dev.lambda_emulator.front import Front
from tmcp_serverless.dev.lambda_emulator.invocation import Invocation
from tmcp_serverless.dev.lambda_emulator.sandbox import Pool, Sandbox

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator
    from types import TracebackType

    from tmcp_serverless.dev.lambda_emulator.function import Function

__all__ = ["LambdaEmulator"]

_SANDBOXES = 10


class LambdaEmulator:
    """A function behind a front door, for the time of an `async with` block.

    Args:
        function: The function that runs.
        sandboxes: The concurrency limit. A request that finds all sandboxes busy for a second is a 429.
        front_door: The kind of events that it makes of requests: `function-url` or `rest-api`.
        listener: The socket that it listens on; by default any free port on 127.0.0.1.
        output: The descriptor for the function's output; `None` is our own output.
        say: Told of invocations that fail.
    """

    def __init__(
        self,
        function: Function,
        *,
        sandboxes: int = _SANDBOXES,
        front_door: str = "function-url",
        listener: socket.socket | None = None,
        output: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._function = function
        self._pool = Pool(lambda name: Sandbox(name, function, output=output), limit=sandboxes)
        variables = {**os.environ, **function.environment}
        told_of_hosts = any(variables.get(name) for name in ("TMCP_ALLOWED_HOSTS", "TMCP_ALLOWED_ORIGINS"))
        self._front = Front(self.invoke, FRONT_DOORS[front_door], told_of_hosts=told_of_hosts)
        self._listener = listener or listen("127.0.0.1", 0)
        self._say = say or _say_nothing
        self._running: set[asyncio.Task[None]] = set()
        self._server = _Server(_configure(self._front))
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The front door's port."""
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The front door's address without a path."""
        return url_of(*self._listener.getsockname()[:2])

    @property
    def sandboxes(self) -> list[Sandbox]:
        """The live sandboxes, oldest first."""
        return list(self._pool.sandboxes)

    async def warm(self) -> None:
        """Start a sandbox if there is none, and have it wait.

        Raises:
            InitializationError: The function cannot be initialized.
        """
        await self._pool.give_back(await self._pool.take())

    async def invoke(self, event: bytes) -> Invocation:
        """Invoke the function, and return the invocation; its answer is read from that.

        Raises:
            ThrottledError: All sandboxes are busy.
            InitializationError: A new sandbox did not come up.
        """
        sandbox = await self._pool.take()
        invocation = Invocation(event, timeout_seconds=self._function.timeout_seconds)
        task = asyncio.create_task(self._run(sandbox, invocation))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return invocation

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.shut_down()
        await asyncio.gather(*self._running)
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._listener.close()

    async def _run(self, sandbox: Sandbox, invocation: Invocation) -> None:
        try:
            await sandbox.run(invocation)
        finally:
            await self._pool.give_back(sandbox)
        if invocation.failure is not None:
            self._say(f"Invocation {invocation.id}, sandbox {sandbox.name}: {invocation.failure.message}")


class _Server(uvicorn.Server):
    """uvicorn in another program's event loop: it does not handle signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _configure(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        lifespan="off",
        log_config=None,
        log_level="critical",  # an answer without an end is the function's failure, which is said elsewhere
        server_header=False,
        timeout_graceful_shutdown=1,
        ws="none",
    )


def _say_nothing(_: str) -> None:
    """Drop the sentence: the default of `say`."""
