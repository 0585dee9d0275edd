"""A round robin without affinity: every connection goes to the next instance, from any client."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

from tmcp_serverless.cli.relay import relay
from tmcp_serverless.errors import TmcpError
from tmcp_serverless.hosts.descriptors import bounded, connection_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Balancer", "PortInUseError", "listen", "url_of"]

_BACKLOG = 1024
_CONNECTIONS = 400
"""Connections at once, with two descriptors each, if there are so many. More wait to be accepted."""

_CONNECT_SECONDS = 2.0
_POLL_SECONDS = 0.05
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach who listens everywhere
_UNAVAILABLE = b"No instance accepts connections.\n"
_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n"
)


class PortInUseError(TmcpError):
    """Something else listens at the cluster's address. The message names the address."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket that leaves the process some descriptors; port 0 is any free port.

    Raises:
        PortInUseError: Something else listens there.
        OSError: The host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = bounded(socket.create_server((host, port), family=family, backlog=_BACKLOG))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUseError(f"Port {port} on {host} is in use; choose another with --port.") from None
    # Accepted connections inherit it. asyncio sets it only on a socket that was made for TCP by number, and
    # an answer in several pieces would wait 40 ms for its acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


def url_of(host: str, port: int) -> str:
    """Return the address, without a path, that leads from this machine to a listener there."""
    host = _LOOPBACK.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Balancer:
    """Passes every connection on to one of the ports on 127.0.0.1 that `live` returns, in turn.

    A port that cannot be connected to is skipped. With none for `wait_seconds`, the answer is 503.
    """

    def __init__(
        self, listener: socket.socket, live: Callable[[], Sequence[int]], *, wait_seconds: float = 20.0
    ) -> None:
        self._listener = listener
        self._live = live
        self._wait_seconds = wait_seconds
        self._turn = 0
        self._room = asyncio.Semaphore(int(min(_CONNECTIONS, connection_descriptors() / 2)))

    async def run(self) -> None:
        """Balance until cancelled; then every connection is closed."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as connections:
            while True:
                await self._room.acquire()
                try:
                    client, _ = await loop.sock_accept(self._listener)
                except OSError:
                    self._room.release()
                    await asyncio.sleep(_POLL_SECONDS)  # out of descriptors, or a client that has gone again
                    continue
                task = connections.create_task(self._pass_on(client))
                task.add_done_callback(lambda _: self._room.release())

    async def _pass_on(self, client: socket.socket) -> None:
        with client:
            try:
                if (server := await self._connect()) is not None:
                    await relay(client, server)
                else:
                    await _refuse(client)
            except OSError:
                return  # the client has gone

    async def _connect(self) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_seconds
        while loop.time() < deadline:
            for port in self._in_turn():
                if (server := await _connect_to(port)) is not None:
                    return server
            await asyncio.sleep(_POLL_SECONDS)
        return None

    def _in_turn(self) -> list[int]:
        ports = list(self._live())
        if not ports:
            return []
        first = self._turn % len(ports)
        self._turn += 1
        return ports[first:] + ports[:first]


async def _refuse(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, _HEAD % len(_UNAVAILABLE) + _UNAVAILABLE)


async def _connect_to(port: int) -> socket.socket | None:
    try:
        server = socket.socket()
    except OSError:
        return None  # out of descriptors: it is tried again
    server.setblocking(False)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", port))
    except (OSError, TimeoutError):
        server.close()
        return None
    except BaseException:
        server.close()
        raise
    return server
