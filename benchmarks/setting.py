"""What every benchmark is given, and how it starts ours."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

from benchmarks.asgi import lifespan
from benchmarks.example import build_server
from benchmarks.row import NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.asgi import App
    from benchmarks.samples import Operation
    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["Setting", "running_handler", "sending", "streams_manager"]

_LIMIT_SECONDS = 5.0


class Stream(Protocol):
    """A client's end of a stream."""

    def awaiting(self, needle: bytes) -> asyncio.Future[float]:
        """Return when, by `time.perf_counter`, bytes that contain the needle arrive."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure."""

    server_url: str
    """A Postgres server, durable, on which databases may be created."""

    rounds: int
    """How many rounds of alternating blocks."""

    quick: bool = False
    """Whether a smaller size will do: to see that it works, not to quote."""

    def size(self, full: int, quick: int) -> int:
        """Return one of the two."""
        return quick if self.quick else full


@asynccontextmanager
async def running_handler(database_url: str) -> AsyncGenerator[App]:
    """Yield the application of `create_handler`, with its defaults, in its lifespan."""
    try:
        from tmcp_serverless.handler import create_handler
    except ImportError as error:
        raise NotMeasuredError(str(error)) from error
    app = create_handler(build_server(), database_url=database_url).app
    async with lifespan(app):
        yield app


@asynccontextmanager
async def streams_manager(url: str) -> AsyncGenerator[StreamSessionManager]:
    """Yield a manager with connections of its own."""
    try:
        from tmcp_serverless.postgres import PostgresStreamSessionManager
    except ImportError as error:
        raise NotMeasuredError(str(error)) from error
    async with PostgresStreamSessionManager(url) as streams:
        yield streams


def sending(streams: StreamSessionManager, session_id: str, stream: Stream) -> Operation:
    """Return what sends a message to the session, and ends when the stream has it."""
    numbers = count(1)

    async def operation() -> float:
        number = next(numbers)
        arrival = stream.awaiting(b'"message %d"' % number)
        data = (
            '{"jsonrpc":"2.0","method":"notifications/message",'
            f'"params":{{"level":"info","data":"message {number}"}}}}'
        )
        start = time.perf_counter()
        await streams.send([session_id], data)
        return await asyncio.wait_for(arrival, _LIMIT_SECONDS) - start

    return operation
