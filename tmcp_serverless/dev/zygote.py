"""A process that has imported the application and only forks: one child for each connection.

The child has served nothing before and serves nothing after. State that it needs and does not find in the
database is therefore missing. Amnesia mode is there to show that.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from tmcp_serverless.dev.control import GRACE_SECONDS
from tmcp_serverless.dev.oneshot import serve_connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import uvicorn

    from tmcp_serverless.dev.control import Control

__all__ = ["CHILDREN", "Zygote"]

CHILDREN = 64
"""Requests that one instance serves at once; further connections wait to be accepted."""

_POLL_SECONDS = 0.02
_IMPORTED_LATE = (
    "anyio._backends._asyncio",
    "tmcp_serverless.handshake.http_sse_runner",
    "tmcp_serverless.modern.server",
    "tmcp_serverless.sdk.connection",
    "tmcp_serverless.sdk.kernel",
)
"""Modules that every request to an MCP server would import in its own process. Imported code is no memory."""

_END_SECONDS = GRACE_SECONDS + 0.4


class Zygote:
    """Accepts connections and forks: no event loop, no threads and no connections of its own.

    At most 64 children live at once; further connections wait to be accepted.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, control: Control) -> None:
        self._config = config
        self._listener = listener
        self._control = control
        self._children: set[int] = set()
        self._told = False
        self._wakeup, self._wake = os.pipe()

    def run(self, report: Callable[[], None]) -> None:
        """Serve until SIGTERM, or until the cluster is gone, and then until the children have ended."""
        self._prepare()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ)
            selector.register(self._control.socket, selectors.EVENT_READ)
            report()
            while not self._told:
                self._reap()
                self._listen_if_there_is_room(selector)
                for key, _ in selector.select():
                    self._react(key.fileobj)
        self._listener.close()
        self._end_children()

    def _prepare(self) -> None:
        if not self._config.loaded:
            self._config.load()
        self._config.get_loop_factory()  # imports what it is made of
        if "mcp" in sys.modules:
            for name in _IMPORTED_LATE:
                import_module(name)
        if threading.active_count() > 1:
            sys.stderr.write("tmcp-serverless: the import has started threads; no request will find them.\n")
        self._listener.setblocking(False)
        for descriptor in (self._wakeup, self._wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.signal(signal.SIGTERM, self._tell)
        gc.collect()
        gc.freeze()  # so that the children's collector does not copy the pages that they share

    def _tell(self, _signal: int, _frame: object) -> None:
        self._told = True

    def _listen_if_there_is_room(self, selector: selectors.BaseSelector) -> None:
        listening = self._listener in selector.get_map()
        if len(self._children) < CHILDREN and not listening:
            selector.register(self._listener, selectors.EVENT_READ)
        elif len(self._children) >= CHILDREN and listening:
            selector.unregister(self._listener)

    def _react(self, source: object) -> None:
        if source is self._listener:
            self._accept()
        elif source is self._control.socket:
            self._told = True  # nothing is ever sent: the cluster is gone
        else:
            os.read(self._wakeup, 4096)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            time.sleep(_POLL_SECONDS)  # out of descriptors, or a client that has gone again
            return
        with connection:
            sys.stdout.flush()
            sys.stderr.flush()
            if (child := os.fork()) == 0:
                self._become_child(connection)
            self._children.add(child)

    def _become_child(self, connection: socket.socket) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._listener.close()
            self._control.follow()
            serve_connection(self._config, connection)
            code = 0
        except BaseException:  # noqa: BLE001 - nothing may run on as if it were the zygote
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        self._children = {child for child in self._children if os.waitpid(child, os.WNOHANG)[0] == 0}

    def _end_children(self) -> None:
        self._signal_children(signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        while self._children and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            self._reap()
        self._signal_children(signal.SIGKILL)

    def _signal_children(self, number: signal.Signals) -> None:
        self._reap()
        for child in self._children:
            os.kill(child, number)


def _wake_up(_signal: int, _frame: object) -> None:
    """Do nothing: a handled signal writes to the wakeup pipe."""
