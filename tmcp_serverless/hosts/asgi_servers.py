"""The ASGI servers that run in an event loop, found in the coroutines of its tasks.

An application has no public way to find its server. `uvicorn.Server` may run in a thread, in a task of
another program, or in a worker of gunicorn. hypercorn's server is one coroutine. All of them have a task that
waits in their code. Nothing of them is imported or patched.
"""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AsgiServer", "servers_in_this_loop"]

_GRACE_SECONDS = 1.0
"""Grace period of requests if the server sets no limit: a reload waits for it."""

_RESERVE_SECONDS = 2.0
"""Time before the server's own limit at which requests end: their clients are told, and the lifespan is
left."""


class AsgiServer:
    """A running server: one coroutine that waits until it is told to stop.

    Args:
        coroutine: The server's own.

    """

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    @property
    def is_stopping(self) -> bool:
        """True if the server has begun to stop."""
        raise NotImplementedError

    @property
    def has_stopped(self) -> bool:
        """True if the server serves nothing any more."""
        return self._coroutine.cr_frame is None

    @property
    def grace_seconds(self) -> float:
        """Seconds that requests may run on once the server stops."""
        raise NotImplementedError

    def serves(self, task: asyncio.Task[Any]) -> bool:
        """Return `True` if a request's task is known to be this server's."""
        del task
        return False

    def _local(self, name: str) -> Any:
        frame = self._coroutine.cr_frame
        if frame is None:
            raise KeyError(name)
        return frame.f_locals[name]


class _Uvicorn(AsgiServer):
    """`uvicorn.Server`, by itself or in a worker of gunicorn."""

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        super().__init__(coroutine)
        self._server = self._local("self")

    @property
    def is_stopping(self) -> bool:
        # After `limit_max_requests` it stops without the flag, by closing its sockets.
        listening = getattr(self._server, "servers", ())
        return self._server.should_exit or not all(each.is_serving() for each in listening)

    @property
    def grace_seconds(self) -> float:
        own = getattr(self._server, "request_grace_seconds", None)
        return _grace_within(self._server.config.timeout_graceful_shutdown) if own is None else own

    def serves(self, task: asyncio.Task[Any]) -> bool:
        return task in self._server.server_state.tasks


class _Hypercorn(AsgiServer):
    """hypercorn's coroutine of one worker."""

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        super().__init__(coroutine)
        self._context, self._config = self._local("context"), self._local("config")

    @property
    def is_stopping(self) -> bool:
        return self._context.terminated.is_set()

    @property
    def grace_seconds(self) -> float:
        return _grace_within(self._config.graceful_timeout)


class _Gunicorn(AsgiServer):
    """gunicorn's own worker for ASGI."""

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        super().__init__(coroutine)
        self._worker = self._local("self")

    @property
    def is_stopping(self) -> bool:
        return not self._worker.alive

    @property
    def grace_seconds(self) -> float:
        return _GRACE_SECONDS  # Its limit is the arbiter's, which is 30 seconds where nobody has set one.


_KINDS: dict[tuple[str, str], type[AsgiServer]] = {
    ("uvicorn.server", "_serve"): _Uvicorn,
    ("hypercorn.asyncio.run", "worker_serve"): _Hypercorn,
    ("gunicorn.workers.gasgi", "_serve"): _Gunicorn,
}
"""Server classes by the module and the name of the coroutine function that the server waits in."""


def servers_in_this_loop() -> tuple[AsgiServer, ...]:
    """Return the servers that run in the event loop of the caller."""
    return tuple(
        server
        for task in asyncio.all_tasks()
        for coroutine in _coroutines(task)
        if (server := _server_of(coroutine)) is not None
    )


def _server_of(coroutine: CoroutineType[Any, Any, Any]) -> AsgiServer | None:
    frame = coroutine.cr_frame
    if frame is None:
        return None
    kind = _KINDS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
    try:
        return None if kind is None else kind(coroutine)
    except KeyError:
        return None  # It is only just starting.


def _coroutines(task: asyncio.Task[Any]) -> Iterator[CoroutineType[Any, Any, Any]]:
    """Yield the coroutines that a task waits in, the outermost first."""
    waiting: Any = task.get_coro()
    while isinstance(waiting, CoroutineType):
        yield waiting
        waiting = waiting.cr_await


def _grace_within(limit_seconds: float | None) -> float:
    if limit_seconds is None:
        return _GRACE_SECONDS
    return max(limit_seconds - _RESERVE_SECONDS, min(_GRACE_SECONDS, limit_seconds / 2))
