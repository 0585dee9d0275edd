"""Deadlines of requests: a request runs for as long as its invocation lasts, and no longer.

A process that is killed at the deadline closes nothing, in Postgres either, and the sandbox ends with it. So
a request is cancelled before that. A request that does not end then is left behind, since the client needs an
answer, and the sandbox its next invocation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from tmcp_serverless.exits import Contained

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["ANSWER_SECONDS", "RESERVE_SECONDS", "DeadlineRunner", "TimeIsOverError"]

logger = logging.getLogger(__name__)

RESERVE_SECONDS = 0.5
"""Time before the deadline at which a request is cancelled."""

_ENDING_SECONDS = 0.25
"""The part of that time that a cancelled request has for ending."""

ANSWER_SECONDS = 0.1
"""Time before the deadline that is left for asking for the next invocation: nothing more is sent then."""


class TimeIsOverError(Exception):
    """A request was cancelled shortly before its deadline."""


class DeadlineRunner:
    """Runs requests, each until shortly before its deadline."""

    def __init__(self) -> None:
        self._left: set[asyncio.Task[None]] = set()

    async def run(self, request: Awaitable[None], *, deadline: float | None, name: str) -> None:
        """Run a request in a task of its own, until shortly before its deadline, by `time.monotonic()`.

        If this call is cancelled, it cancels the request. Nothing is left running when it returns, except a
        request that does not end. That request is logged under its name, and kept until it ends.

        Raises:
            TimeIsOverError: The request was cancelled, however it then ended.
            BaseException: The request's own error.
        """
        task = asyncio.create_task(_as_coroutine(request), name=name)
        limit = None if deadline is None else deadline - RESERVE_SECONDS - time.monotonic()
        in_time = False
        try:
            await asyncio.wait({task}, timeout=limit)
            in_time = task.done()
        finally:
            if not in_time:
                await self._end(task)
        if not in_time:
            raise TimeIsOverError(f"{name} was cancelled: its time is over") from _error_of(task)
        task.result()

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=_ENDING_SECONDS)
        if not task.done():
            logger.error("%s does not end though it was cancelled; it is left behind", task.get_name())
            self._left.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._left.discard(task)
        if (error := _error_of(task)) is not None:
            logger.warning("%s ended with an error after its deadline", task.get_name(), exc_info=error)


async def _as_coroutine(request: Awaitable[None]) -> None:
    with Contained():  # A task that exits would end the event loop.
        await request


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
