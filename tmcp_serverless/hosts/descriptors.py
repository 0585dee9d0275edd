"""File descriptors of a process: as many as its limit allows, and a reserve that connections never take."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BoundedListener",
    "LoopErrors",
    "bounded",
    "connection_descriptors",
    "most_connections",
    "raise_descriptor_limit",
]

logger = logging.getLogger(__name__)

_MOST = 65_536
"""The highest soft limit that is requested: some libraries walk through all descriptors."""

_RESERVE_MOST = 256
_RESERVE_SHARE = 8
"""One of 8 descriptors, 256 at most, are for the database, files and imports."""

_ACCEPTED_AT_ONCE = 8
"""Connections that are accepted before the event loop opens them. asyncio would take thousands."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_WARNING_SECONDS = 60.0


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit, but not above 65,536."""
    if sys.platform == "win32":
        return
    import resource  # Unix only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # It is no worse than before.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BoundedListener(socket.socket):
    """A listening socket that leaves the process some descriptors.

    Beyond that `make_room` closes a connection. Without it, or if it closes none, connections wait in the
    socket's backlog, and asyncio accepts again after a second.
    """

    make_room: Callable[[], bool] | None = None
    """Closes an idle connection; `False` if there is none."""

    _accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: The event loop has to open or close connections first.
            OSError: EMFILE, if only the reserve is left.
        """
        if self.make_room is not None:
            if self._accepted >= _ACCEPTED_AT_ONCE:
                raise BlockingIOError(errno.EAGAIN, "others are being opened")
            if not self._accepted:
                asyncio.get_running_loop().call_soon(self._begin_again)
            self._accepted += 1
        lowest_free = os.dup(self.fileno())
        os.close(lowest_free)
        if lowest_free >= connection_descriptors():
            if self.make_room is not None and self.make_room():
                raise BlockingIOError(errno.EAGAIN, "another one is being closed")
            raise OSError(errno.EMFILE, "the descriptors that are left are no connections'")
        return super().accept()

    def _begin_again(self) -> None:
        self._accepted = 0


def bounded(listener: socket.socket) -> BoundedListener:
    """Return a bounded socket in place of a listening socket; the given socket is of no use then."""
    return BoundedListener(fileno=listener.detach())


def connection_descriptors() -> float:
    """Return the number of descriptors that connections may have."""
    if sys.platform == "win32":
        return float("inf")
    import resource  # Unix only

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return float("inf")
    return soft - min(_RESERVE_MOST, soft // _RESERVE_SHARE)


def most_connections() -> float:
    """Return the number of connections that leave another reserve: some are accepted and not yet open."""
    descriptors = connection_descriptors()
    return descriptors - min(_RESERVE_MOST, descriptors // _RESERVE_SHARE)


class LoopErrors:
    """An event loop's exception handler that never raises.

    Without descriptors, log handlers fail as well, and asyncio's own exception handler would end the loop.
    """

    def __init__(self) -> None:
        self._warned_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of a callback or of an abandoned task."""
        with contextlib.suppress(Exception):
            error = context.get("exception")
            if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES and "socket" in context:
                self._warn(error)
            else:
                loop.default_exception_handler(context)

    def _warn(self, error: OSError) -> None:
        """Log that connections wait, once a minute."""
        now = time.monotonic()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            logger.warning("new connections wait: %s", error)
