"""The two sides that are compared: the SDK's own transport in one process, and ours in two instances."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tmcp_serverless.handler import create_handler

from .client import Peer
from .notebook import Notebook
from .server import BUILDERS
from .wire import lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tmcp_serverless import SessionManagers

    from .wire import App

__all__ = ["our_peer", "sdk_peer"]

INSTANCES = 2


@contextlib.asynccontextmanager
async def sdk_peer(kind: str) -> AsyncGenerator[Peer]:
    """Start the SDK's stateful streamable HTTP transport, as it comes."""
    notebook = Notebook()
    app = BUILDERS[kind](notebook).streamable_http_app()
    async with lifespan(app):
        yield Peer([app], notebook)


@contextlib.asynccontextmanager
async def our_peer(
    kind: str, database_url: str | None = None, *, new_managers: Callable[[], SessionManagers] | None = None
) -> AsyncGenerator[Peer]:
    """Start instances of ours, each with a server of its own, that share nothing but the store.

    That is the database, or the managers.
    """
    notebook = Notebook()
    managers = None if new_managers is None else new_managers()
    async with contextlib.AsyncExitStack() as stack:
        apps: list[App] = []
        for _ in range(INSTANCES):
            handler = create_handler(
                BUILDERS[kind](notebook), database_url=database_url, session_manager=managers
            )
            stack.push_async_callback(handler.aclose)
            await stack.enter_async_context(lifespan(handler.app))
            apps.append(handler.app)
        yield Peer(apps, notebook)
