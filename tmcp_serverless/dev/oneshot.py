"""One connection and one request in a process that then ends: uvicorn's protocol without uvicorn's server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tmcp_serverless.dev.control import GRACE_SECONDS
from tmcp_serverless.hosts.event_loop import run

if TYPE_CHECKING:
    import socket

    import uvicorn
    from uvicorn.lifespan.off import LifespanOff
    from uvicorn.lifespan.on import LifespanOn

__all__ = ["serve_connection"]

_SILENT_SECONDS = 30.0
"""Seconds that a client may keep a connection, and so a process, without a request."""

_CANCEL_SECONDS = 0.3
_LIFESPAN_SECONDS = 3.0

_NOT_STARTED = b"The application's lifespan failed to start.\n"
_HEAD = (
    b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n"
    b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n"
)


class _OneRequest(H11Protocol):
    """An HTTP/1.1 connection that notes if anything has come, and when it is over."""

    def __init__(self, config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, state, app_state)
        self.closed = asyncio.Event()
        self.asked = False

    def data_received(self, data: bytes) -> None:
        self.asked = True
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()


def serve_connection(config: uvicorn.Config, connection: socket.socket) -> None:
    """Serve the one request that comes over this connection, with the application's lifespan around it."""
    run(_serve(config, connection), loop_factory=config.get_loop_factory())


async def _serve(config: uvicorn.Config, connection: socket.socket) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop_requested.set)
    lifespan: LifespanOn | LifespanOff = config.lifespan_class(config)
    await lifespan.startup()
    if lifespan.should_exit:
        await _refuse(connection)
        return
    state = ServerState()
    state.default_headers = [
        (b"date", formatdate(time.time(), usegmt=True).encode()),
        *config.encoded_headers,
        (b"x-tmcp-instance", str(os.getpid()).encode()),
    ]
    _, protocol = await loop.connect_accepted_socket(
        lambda: _OneRequest(config, state, lifespan.state), connection
    )
    silence = loop.call_later(_SILENT_SECONDS, _close_if_silent, protocol)
    await _finish(protocol, state, stop_requested)
    silence.cancel()
    async with asyncio.timeout(_LIFESPAN_SECONDS):
        await lifespan.shutdown()


async def _refuse(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_recv(connection, 65_536)  # closing with this unread would reset the answer away
        await loop.sock_sendall(connection, _HEAD % len(_NOT_STARTED) + _NOT_STARTED)


def _close_if_silent(protocol: _OneRequest) -> None:
    if not protocol.asked:
        protocol.transport.close()


async def _finish(protocol: _OneRequest, state: ServerState, stop_requested: asyncio.Event) -> None:
    """Return when the connection is closed and the application has returned, or soon after a stop."""
    over = asyncio.create_task(_is_over(protocol, state))
    waiting = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({over, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not over.done():
        protocol.shutdown()
        await asyncio.wait({over}, timeout=GRACE_SECONDS)
    over.cancel()
    for task in state.tasks:
        task.cancel()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=_CANCEL_SECONDS)


async def _is_over(protocol: _OneRequest, state: ServerState) -> None:
    await protocol.closed.wait()
    while state.tasks:
        await asyncio.wait(state.tasks)
