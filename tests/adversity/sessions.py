"""Making sessions, before and while things break."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.adversity.listener import Listener
from tests.adversity.wire import Answer, BrokenError, request
from tests.support.client import initialize_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.adversity.ledger import Ledger
    from tests.adversity.timeline import Timeline

__all__ = ["Sessions"]

_INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_ATTEMPTS = 100
_AGAIN_SECONDS = 0.3
_HEAD_SECONDS = 3.0


class Sessions:
    """The clients, each with its stream held in a task."""

    def __init__(
        self,
        port: int,
        *,
        ledger: Ledger,
        timeline: Timeline,
        seeded: Callable[[str], Random],
        greet: Callable[[Listener], Awaitable[None]],
    ) -> None:
        self._greet = greet
        self._port = port
        self._ledger = ledger
        self._timeline = timeline
        self._seeded = seeded
        self._tasks: list[asyncio.Task[None]] = []
        self._count = 0
        self.listeners: list[Listener] = []
        self.joining: list[int] = []
        """The indices of sessions that may exist already, and hear broadcasts already."""

    async def join(self, early: Callable[[Listener], Awaitable[None]] | None = None) -> None:
        """Initialize a session and hold its stream from now on.

        It is greeted until it has an event id to resume from; from then on all that is sent to it is due.
        `early`: sends messages that are on their way when the session loses the first stream that it opens.
        """
        index, self._count = self._count, self._count + 1
        self.joining.append(index)
        id = await self._initialize(index)
        listener = Listener(
            index,
            id,
            self._port,
            ledger=self._ledger,
            timeline=self._timeline,
            rng=self._seeded(f"session {index}"),
        )
        self._timeline.note(f"session {index} is {id[:8]}…")
        if early is not None:
            await listener.lose_first_stream(lambda: early(listener))
        self._tasks.append(asyncio.create_task(listener.run()))
        for _ in range(_ATTEMPTS):
            if listener.has_place:
                break
            await self._greet(listener)
            await asyncio.sleep(_AGAIN_SECONDS)
        self.joining.remove(index)
        self.listeners.append(listener)

    async def _initialize(self, index: int) -> str:
        """Initialize as often as it takes: a session whose answer was lost is one that nobody knows of."""
        for _ in range(_ATTEMPTS):
            try:
                answer = await self._post(None, initialize_message())
                if answer.status == 200:
                    id = answer.headers["mcp-session-id"]
                    await self._until_accepted(id)
                    return id
            except BrokenError as error:
                self._timeline.note(f"session {index} is not initialized yet: {error}")
            await asyncio.sleep(_AGAIN_SECONDS)
        raise TimeoutError(f"session {index} was not initialized in {_ATTEMPTS} attempts")

    async def _until_accepted(self, id: str) -> None:
        for _ in range(_ATTEMPTS):
            with suppress(BrokenError):
                answer = await self._post(id, _INITIALIZED)
                if answer.status == 202:
                    return
                if answer.status != 503:
                    self._ledger.findings.add("other", f"initialized was answered with {answer.status}")
                    return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _post(self, session: str | None, message: object) -> Answer:
        answer = await request(
            self._port, "POST", session=session, message=message, head_seconds=_HEAD_SECONDS
        )
        try:
            await answer.message()
        finally:
            answer.close()
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
