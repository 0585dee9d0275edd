"""The longest pause of a server's event loop, measured inside of its process.

In the server's process, put `Watched` around the application:

    serve(Watched(create_handler(server).app), host="127.0.0.1")

The measurement begins with the server's start. `take(url)` returns the `Pause` since the last call, and
begins anew; `PATH` is the endpoint behind it, for clients that have a connection already. `longest_while`
does both around a coroutine. Another kind of process, such as an emulator's, may use `Watchdog` itself.

A pause is the time between two ticks of the loop: no other client is served meanwhile, however many
callbacks share it. `cpu` is the CPU time of the loop's thread in it. A busy machine adds nothing to that, so
tests compare it, best with `reference`: the CPU time of a fixed piece of work, done by the same process when
it is asked. `wall` has what blocks without work, such as a file, and what other processes do.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tests.support import web

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tmcp_serverless.http import ASGIApp, Receive, Scope, Send

__all__ = ["PATH", "Pause", "Watchdog", "Watched", "longest_while", "take"]

PATH = "/longest-pause"

_TICK_SECONDS = 0.001
_REFERENCE = b"[" + b'{"a":[1,"b"]},' * 20_000 + b"0]"


@dataclass(frozen=True)
class Pause:
    """The longest time between two ticks, in seconds."""

    wall: float
    cpu: float
    reference: float
    """CPU seconds that the process needs to parse a fixed document of 60,000 values."""


class Watchdog:
    """Measures the running event loop from `start` on, by a timer that sets itself again."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._cpu = 0.0
        self._last = (0.0, 0.0)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the loop that calls. A second call in the same loop does nothing."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._last = loop, _now()
            self._set(loop)

    def take(self) -> Pause:
        """Return the longest pause until now, with that which just ends, and forget it."""
        self._measure()
        found = Pause(self._wall, self._cpu, _reference_seconds())
        self._wall = self._cpu = 0.0
        self._last = _now()
        return found

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_TICK_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            self._measure()
            self._set(loop)

    def _measure(self) -> None:
        (wall, cpu), self._last = self._last, _now()
        self._wall = max(self._wall, self._last[0] - wall - _TICK_SECONDS)
        self._cpu = max(self._cpu, self._last[1] - cpu)


class Watched:
    """ASGI application with a watchdog, which answers at `PATH`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Any = app
        self._dog = Watchdog()

    def __getattr__(self, name: str) -> Any:
        # Hosts look for `drain`.
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._dog.start()
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        body = json.dumps(asdict(self._dog.take())).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def take(url: str) -> Pause:
    """Return the longest pause of the server at this address since the last call."""
    async with httpx.AsyncClient(timeout=web.LIMIT_SECONDS) as client:
        return Pause(**(await client.get(url.rstrip("/") + PATH)).json())


async def longest_while(url: str, doing: Awaitable[Any]) -> Pause:
    """Return the longest pause of the server while this is done."""
    await take(url)
    await doing
    return await take(url)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.thread_time()


def _reference_seconds() -> float:
    """Return the least of three: what interrupts a process makes it longer, and nothing shorter."""
    taken: list[float] = []
    for _ in range(3):
        began_at = time.thread_time()
        json.loads(_REFERENCE)
        taken.append(time.thread_time() - began_at)
    return min(taken)
