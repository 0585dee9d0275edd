"""Bytes between two connected sockets, both ways, as they come, until the answering side has ended."""

from __future__ import annotations

import asyncio
import socket
from enum import Enum, auto

__all__ = ["relay"]

_CHUNK_BYTES = 65_536
_LINGER_SECONDS = 1.0


class _End(Enum):
    """The reason that bytes no longer flow in one direction."""

    FINISHED = auto()
    """The source sent all it had; the sink has been told (half-close)."""

    SOURCE_LOST = auto()
    """The source's connection was reset."""

    SINK_LOST = auto()
    """The sink accepts nothing any more."""


async def relay(client: socket.socket, server: socket.socket) -> None:
    """Pipe until the server has closed, or the client is gone; both sockets are closed then.

    Nothing is buffered beyond one chunk per direction, so that a slow reader slows its writer down. The other
    side sees at once that a side closes: as a half-close if more may come from there, as a close if nothing
    will be read any more.
    """
    for each in (client, server):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, server:
        asking = asyncio.create_task(_pipe(client, server))
        answering = asyncio.create_task(_pipe(server, client))
        try:
            await _until_answered(asking, answering)
            if answering.done() and answering.result() is not _End.SINK_LOST:
                asking.cancel()
                await _linger(client, asking)
        finally:
            asking.cancel()
            answering.cancel()
            await asyncio.wait({asking, answering})


async def _until_answered(asking: asyncio.Task[_End], answering: asyncio.Task[_End]) -> None:
    await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
    # The answer still goes to a client that has sent everything, or has sent a body that the server does not
    # want.
    if not answering.done() and asking.result() is not _End.SOURCE_LOST:
        await asyncio.wait({answering})


async def _pipe(source: socket.socket, sink: socket.socket) -> _End:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(source, _CHUNK_BYTES)
        except OSError:
            _shut(sink)
            return _End.SOURCE_LOST
        if not data:
            _shut(sink)
            return _End.FINISHED
        try:
            await loop.sock_sendall(sink, data)
        except OSError:
            return _End.SINK_LOST


def _shut(sink: socket.socket) -> None:
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


async def _linger(client: socket.socket, asking: asyncio.Task[_End]) -> None:
    """Read the rest that the client still sends: closing with bytes unread would reset the answer away."""
    await asyncio.wait({asking})
    if not asking.cancelled() and asking.result() is not _End.SINK_LOST:
        return
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while await loop.sock_recv(client, _CHUNK_BYTES):
                pass
    except (OSError, TimeoutError):
        return
