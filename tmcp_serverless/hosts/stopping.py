"""The stop of an ASGI server, detected from inside the application.

uvicorn and hypercorn tell an application nothing when they begin to stop: they wait until every response has
ended, and send `lifespan.shutdown` afterwards. An SSE stream has no end of its own. So while requests are
under way, the server that runs in this event loop is checked ten times a second. Without requests, or without
such a server (as on Lambda), nothing runs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.hosts.asgi_servers import servers_in_this_loop
from tmcp_serverless.http import PLATFORM_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tmcp_serverless.hosts.asgi_servers import AsgiServer
    from tmcp_serverless.http import Scope

__all__ = ["Stopping"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
"""Interval of the checks of the server: uvicorn checks its own flag as often."""

_DRAIN_SECONDS = 1.0
"""Seconds that draining has before the requests' time is checked again."""


class Stopping:
    """Ends an application's streams when its server begins to stop, and its requests shortly after.

    Streams end at once, by `drain`. A request that still runs then, such as a tool, has the server's own
    grace period less a reserve. Afterwards its task is cancelled, and its client is told.

    Args:
        drain: Ends the open streams. Called repeatedly, since a stream may just be opening.
    """

    def __init__(self, drain: Callable[[], Awaitable[None]]) -> None:
        self._drain = drain
        self._under_way: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._servers: Sequence[AsgiServer] | None = None
        self._ending: asyncio.Task[None] | None = None

    def enter(self, scope: Scope) -> asyncio.Task[Any]:
        """Note that a request begins, and return its task. At most one timer is started in 100 ms."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        self._under_way.add(task)
        loop = task.get_loop()
        if loop is not self._loop:
            self._forget(loop)
        if self._timer is None and self._servers != ():
            self._start(scope, loop)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Note that a request has ended."""
        self._under_way.discard(task)

    def absorbs(self, task: asyncio.Task[Any]) -> bool:
        """Return `True` if the cancellation of a request ends here: its server is stopping.

        The request has been answered as far as possible; a server would log a traceback.
        """
        if not self._is_stopping():
            return False
        task.uncancel()
        return True

    def close(self) -> None:
        """Stop the checks. The next request starts them again."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        # Timers and servers of another event loop are of no use here.
        self._loop, self._timer, self._servers, self._ending = loop, None, None, None

    def _start(self, scope: Scope, loop: asyncio.AbstractEventLoop) -> None:
        if PLATFORM_EXTENSION in (scope.get("extensions") or ()):
            return  # That host drains by itself.
        self._timer = loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = self._loop
        if loop is None or not self._under_way:
            return
        if self._is_stopping():
            if self._ending is None or self._ending.done():
                self._ending = loop.create_task(self._end(_grace_of(self._ours())))
        elif self._servers:
            self._timer = loop.call_later(_LOOK_SECONDS, self._look)

    def _is_stopping(self) -> bool:
        return any(server.is_stopping for server in self._ours())

    def _ours(self) -> Sequence[AsgiServer]:
        """Return the servers of these requests; all of them if middleware has put tasks in between."""
        if not self._servers or any(server.has_stopped for server in self._servers):
            self._servers = servers_in_this_loop()
        if len(self._servers) < 2:  # noqa: PLR2004  # no choice
            return self._servers
        ours = [server for server in self._servers if any(map(server.serves, self._under_way))]
        return ours or self._servers

    def _may_go_on(self, task: asyncio.Task[Any]) -> bool:
        return any(server.serves(task) and not server.is_stopping for server in self._ours())

    async def _end(self, grace_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + grace_seconds
        cancelled: set[asyncio.Task[Any]] = set()
        while self._under_way:
            try:
                await asyncio.wait_for(self._drain(), _DRAIN_SECONDS)
            except TimeoutError:
                logger.debug("draining goes on")
            except Exception:
                logger.exception("draining failed; what is open is cut off at the end of the grace period")
            await asyncio.sleep(_LOOK_SECONDS)
            if loop.time() >= ends:
                late = {task for task in self._under_way - cancelled if not self._may_go_on(task)}
                for task in late:
                    task.cancel()
                cancelled |= late


def _grace_of(servers: Sequence[AsgiServer]) -> float:
    return min((server.grace_seconds for server in servers if server.is_stopping), default=0.0)
