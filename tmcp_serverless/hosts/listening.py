"""Listening sockets of a container: one for each address that its host stands for."""

from __future__ import annotations

import contextlib
import errno
import socket

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.hosts.descriptors import BoundedListener

__all__ = ["listen"]

_EVERYWHERE = {"", "*", "::"}
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


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
