"""What every benchmark is given, and how it starts ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.asgi import lifespan
from benchmarks.example import build_server
from benchmarks.row import NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from benchmarks.asgi import App
    from tmcp_serverless.sessions import StreamSessionManager

__all__ = ["Setting", "running_handler", "streams_manager"]


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
        from tmcp_serverless.handler import create_handler  # noqa: PLC0415
    except ImportError as error:
        raise NotMeasuredError(str(error)) from error
    app = create_handler(build_server(), database_url=database_url).app
    async with lifespan(app):
        yield app


@asynccontextmanager
async def streams_manager(url: str) -> AsyncGenerator[StreamSessionManager]:
    """Yield a manager with connections of its own."""
    try:
        from tmcp_serverless.postgres import PostgresStreamSessionManager  # noqa: PLC0415
    except ImportError as error:
        raise NotMeasuredError(str(error)) from error
    async with PostgresStreamSessionManager(url) as streams:
        yield streams
