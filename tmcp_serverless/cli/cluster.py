"""Several processes that serve one application, behind a balancer: a deployment in small, on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import Future
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from tmcp_serverless.cli.balancer import Balancer, listen, url_of
from tmcp_serverless.cli.control import Order
from tmcp_serverless.cli.loading import parse
from tmcp_serverless.cli.output import Output
from tmcp_serverless.cli.processes import ClusterError, Fleet, Surroundings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["Cluster", "ClusterError"]

_TAIL_LINES = 40


class Cluster:
    """A cluster for the time of a `with` block: `with Cluster("app.py:server", instances=3) as cluster: ...`.

    The balancer runs in a thread of this process. The instances run in processes of their own, named "1", "2"
    and so on. An instance that dies is replaced. Every response names its origin in `x-tmcp-instance`: the
    instance's name, or with amnesia the id of the process that served this one request.

    Args:
        target: `MODULE:ATTR`: a handler, a server, or an ASGI application.
        instances: The number of instances.
        database_url: The instances' `TMCP_DATABASE_URL`.
        amnesia: Every request in a process that has served nothing before and ends afterwards.
        env: More environment variables for the instances, over ours.
        host: The balancer's host.
        port: The balancer's port; 0 is any free port.
        listener: A socket from `balancer.listen`, instead of host and port. The cluster closes it.
        folder: The instances' working directory; by default ours.
        verbose: Instances log every request.
        capture: Keep the instances' output for `output` and for errors; else it goes to our own output.
        say: Told, from another thread, of instances that ended; by default it goes to the output.
        start_seconds: The time that an instance has to start, and that a request waits for one.
    """

    def __init__(
        self,
        target: str,
        *,
        instances: int = 1,
        database_url: str | None = None,
        amnesia: bool = False,
        env: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
        folder: Path | None = None,
        verbose: bool = False,
        capture: bool = True,
        say: Callable[[str], None] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        parse(target, folder=folder)
        if instances < 1:
            raise ClusterError(f"A cluster has at least one instance, not {instances}.")
        self._listener = listener or listen(host, port)
        address: tuple[str, int] = self._listener.getsockname()[:2]
        self._host, self._port = address
        self._output = Output() if capture else None
        self._start_seconds = start_seconds
        database = {} if database_url is None else {"TMCP_DATABASE_URL": database_url}
        self._fleet = Fleet(
            Order(target, name="", control=-1, amnesia=amnesia, verbose=verbose),
            instances,
            Surroundings(
                environment={**os.environ, "PYTHONUNBUFFERED": "1", **database, **(env or {})},
                folder=folder,
                output=self._output and self._output.descriptor,
                start_seconds=start_seconds,
            ),
            say=say or self._note,
        )
        self._started: Future[None] = Future()
        self._thread = Thread(target=self._run, name="tmcp-cluster", daemon=True)
        self._entered = Event()
        # Not `join`: before Python 3.13 a thread counts as ended once a signal has cut that short.
        self._ended = Event()
        self._cancel: Callable[[], object] | None = None
        self._failure: ClusterError | None = None

    @property
    def port(self) -> int:
        """The balancer's port."""
        return self._port

    @property
    def url(self) -> str:
        """The balancer's address without a path, such as `http://127.0.0.1:8000`."""
        return url_of(self._host, self._port)

    @property
    def path(self) -> str:
        """The path of the MCP endpoint below that address; empty if the application does not name it."""
        return next((each.path for each in self._fleet.instances.values() if each.path), "")

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the live instances, by name. With amnesia: of the processes that fork."""
        return {name: each.pid for name, each in self._fleet.instances.items() if each.pid is not None}

    @property
    def failure(self) -> ClusterError | None:
        """The error that made the cluster give up; `None` if it has not."""
        return self._failure

    def instance_url(self, name: str) -> str:
        """Return the address of one instance, around the balancer.

        Raises:
            ClusterError: It does not listen now.

        """
        port = self._fleet.instances[name].port
        if port is None:
            raise ClusterError(f"Instance {name} does not listen now.")
        return f"http://127.0.0.1:{port}"

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to an instance. SIGTERM and SIGINT go to its process, others to its children, too."""
        self._fleet.instances[name].send(number)

    def output(self) -> str:
        """Return the output of the instances, if it is captured."""
        return "" if self._output is None else self._output.text()

    def running(self, timeout: float = 0.0) -> bool:
        """Return `True` if the cluster still runs, after at most this many seconds; see `failure` if not."""
        return not self._ended.wait(timeout)

    def start(self) -> Self:
        """Start the cluster, and return when every instance listens.

        Raises:
            ClusterError: An instance does not listen. The message has one sentence, and the end of the
                captured output.
        """
        self._thread.start()
        try:
            self._started.result()
        except BaseException as error:
            self.stop()
            if isinstance(error, ClusterError) and (tail := self._tail()):
                raise ClusterError(f"{error}\n{tail}") from None
            raise
        return self

    def stop(self) -> None:
        """End everything within 4 seconds: connections at once, instances when they let go. Idempotent."""
        if self._thread.ident is not None:
            self._entered.wait()
            cancel, self._cancel = self._cancel, None
            if cancel is not None:
                cancel()
            self._ended.wait()
        self._listener.close()
        if self._output is not None:
            self._output.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None and (tail := self._tail()):
            error.add_note(f"The instances' output ends with:\n{tail}")

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - for the thread that waits in start()
            if not self._started.done():
                self._started.set_exception(error)
            elif not isinstance(error, asyncio.CancelledError):
                self._failure = ClusterError(f"The balancer failed: {error!r}")
        finally:
            self._ended.set()

    async def _main(self) -> None:
        self._admit(asyncio.get_running_loop(), asyncio.current_task())
        try:
            await self._fleet.start()
            await self._balance()
        finally:
            self._listener.close()
            await self._fleet.end()

    def _admit(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None] | None) -> None:
        """Let `stop` cancel the thread's task from now on."""
        if task is not None:
            self._cancel = lambda: loop.is_closed() or loop.call_soon_threadsafe(task.cancel)
        self._entered.set()

    async def _balance(self) -> None:
        balancer = Balancer(self._listener, self._fleet.ports, wait_seconds=self._start_seconds)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(balancer.run())
                for instance in self._fleet.instances.values():
                    group.create_task(self._fleet.keep(instance))
                self._started.set_result(None)
        except* ClusterError as errors:
            self._failure = next(each for each in errors.exceptions if isinstance(each, ClusterError))

    def _note(self, sentence: str) -> None:
        if self._output is None:
            sys.stderr.write(f"{sentence}\n")
        else:
            self._output.write(sentence)

    def _tail(self) -> str:
        return "\n".join(self.output().splitlines()[-_TAIL_LINES:])
