"""The container host: uvicorn, with settings for processes that are told to stop at any moment.

It listens at each address that its host stands for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from tmcp_serverless.config import Settings
from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.connections import Connections, bounded_protocol
from tmcp_serverless.hosts.descriptors import BoundedListener, LoopErrors, raise_descriptor_limit
from tmcp_serverless.hosts.event_loop import run
from tmcp_serverless.http import ConnectionOptions

if TYPE_CHECKING:
    from tmcp_serverless.http import ASGIApp

__all__ = ["GRACE_SECONDS", "DrainingServer", "configure", "listen", "serve"]

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3
"""Seconds that responses have to end after SIGTERM. An SSE stream has no end of its own, and Cloud Run sends
SIGKILL after 10 seconds: the rest is for the application's own shutdown."""

_RESERVE_SECONDS = 0.5
"""Time before the end of the grace period at which requests are ended, so that their clients are told."""

_KEEP_ALIVE_SECONDS = 620
"""Longer than load balancers keep an idle connection (AWS 60 s, Google 600 s). If the server closes first
while a request is on its way, the client gets a 502."""


_M_MMAP_THRESHOLD = -3
"""Of `malloc.h`."""

_EVERYWHERE = {"", "*", "::"}
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def configure(app: ASGIApp, **overrides: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for an ASGI application; `overrides` are `uvicorn.Config`'s own."""
    settings: dict[str, Any] = {
        "access_log": False,
        "lifespan": "auto",
        "server_header": False,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "ws": "none",
    }
    return uvicorn.Config(app, **(settings | overrides))


def serve(
    app: ASGIApp,
    *,
    host: str = "*",
    port: int | None = None,
    **overrides: Any,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT, then let responses end for `GRACE_SECONDS`.

    `host` is a name or an address. The default is all of IPv4 and of IPv6, as with `*`, `::` or "". `port` is
    by default the value of the variable `PORT`, as on Cloud Run, else 8080. uvicorn's `uds` or `fd` replaces
    both. The process may open as many files as its hard limit allows; connections leave some of them.

    Raises:
        ConfigurationError: `PORT` is no port number, or nothing can listen there.
    """
    raise_descriptor_limit()
    _return_memory()
    port = _port() if port is None else port
    config = configure(app, host=host, port=port, **overrides)
    elsewhere = config.uds is not None or config.fd is not None
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when all is done
        DrainingServer(config).run(None if elsewhere else listen(host, port))


class DrainingServer(uvicorn.Server):
    """uvicorn that tells the application to end its streams before it waits for responses to end."""

    @property
    def request_grace_seconds(self) -> float | None:
        """Seconds that requests may run on: nearly until uvicorn would cancel them, and log it."""
        limit = self.config.timeout_graceful_shutdown
        return None if limit is None else limit - _RESERVE_SECONDS

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve as uvicorn does, though background tasks of user code may exit."""
        run(self.serve(sockets=sockets), loop_factory=self.config.get_loop_factory())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, on an event loop that no error in a callback ends."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        app = self.config.app
        connections = Connections(_connection_options(app), count=getattr(app, "count", None))
        self._connections = connections
        self.config.http_protocol_class = bounded_protocol(self.config.http_protocol_class, connections)
        for each in sockets or ():
            if isinstance(each, BoundedListener):
                each.make_room = connections.make_room
        await super().startup(sockets=sockets)
        # Modules live as long as the process. Each full collection would look through them for 50 ms.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain the application, then shut down as uvicorn does."""
        drain = getattr(self.config.app, "drain", None)
        if drain is not None:
            try:
                await drain()
            except Exception:
                logger.exception("draining failed; what is open is cut off at the end of the grace period")
        await super().shutdown(sockets=sockets)
        self._connections.close()


def _return_memory() -> None:
    """Let glibc return blocks of 256 KiB and more to the system as soon as they are freed.

    By default it keeps blocks of up to 32 MiB once it has freed one, and long bodies fragment its heap.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # musl has no such function.
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def _connection_options(app: object) -> ConnectionOptions:
    """Return the options of the application, or, if it is another's that contains ours, the environment's."""
    options = getattr(app, "connection_options", None)
    if options is not None:
        return options
    return Settings.load().options(ConnectionOptions)


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that are bound to every address of the host; `*`, `::` and "" are all of IPv4 and IPv6.

    Each family has a socket of its own, so that peers over IPv4 have IPv4 addresses. An address family that
    the machine does not have is left out. With port 0, all sockets have the same free port.

    Raises:
        ConfigurationError: The host has no address here, or something else listens there.
    """
    bound: list[socket.socket] = []
    problem: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            bound.append(_bind(family, (address[0], port, *address[2:])))
        except OSError as error:
            problem = error
            if error.errno not in _NO_SUCH_FAMILY:
                break
        else:
            port = bound[-1].getsockname()[1]
    if problem is None or (bound and problem.errno in _NO_SUCH_FAMILY):
        return bound
    for each in bound:
        each.close()
    raise ConfigurationError(f"Nothing can listen at {host or '*'!r}, port {port}: {problem}.")


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, ...]]]:
    name = None if host in _EVERYWHERE else host
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"The host {host!r} has no address to listen at: {error}.") from None
    # IPv4 first: its free port is free for IPv6 as a rule.
    unique = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return sorted(unique, key=lambda each: each[0] != socket.AF_INET)  # type: ignore[return-value]


def _bind(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    listener = BoundedListener(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # by number: asyncio looks for it
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(AttributeError, OSError):
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _port() -> int:
    value = os.environ.get("PORT", "8080")
    if not value.isdecimal() or int(value) > 65535:  # noqa: PLR2004  # the highest port
        raise ConfigurationError(f"PORT is {value!r}; it has to be a port number.")
    return int(value)
