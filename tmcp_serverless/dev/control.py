"""Messages between a cluster and its instances: one order, one report, and a sign of life.

The order is an argument of the instance's process. The report is one line of JSON on a socket pair that both
keep open afterwards. Its end tells an instance that the cluster is gone, for any reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from threading import Thread

__all__ = ["GRACE_SECONDS", "KILL_SECONDS", "Control", "Order", "Report", "read_report"]

GRACE_SECONDS = 3.0
"""Seconds that an instance lets responses end after SIGTERM."""

KILL_SECONDS = 3.8
"""Seconds after SIGTERM at which an instance that is still there gets SIGKILL."""

_REPORT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Order:
    """The order to an instance."""

    target: str
    """`MODULE:ATTR`, as in `loading`."""

    name: str
    control: int
    """The descriptor of the instance's end of the socket pair."""

    amnesia: bool = False
    verbose: bool = False

    def to_json(self) -> str:
        """Return the order as an argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read the text that `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Report:
    """Result of an instance's start: a port on 127.0.0.1, or an error in one sentence."""

    port: int = 0
    error: str = ""
    path: str = ""
    """The path of the MCP endpoint, if the application names it."""


class Control:
    """The instance's end of the socket pair."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)

    def report(self, report: Report) -> None:
        """Send the report to the cluster; do nothing if it is gone."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(asdict(report)).encode() + b"\n")

    def follow(self) -> None:
        """End this process when the cluster is gone, from now on: with SIGTERM, and at last by force."""
        Thread(target=self._follow, name="tmcp-cluster-watch", daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(KILL_SECONDS)
        os._exit(1)


async def read_report(control: socket.socket) -> Report | None:
    """Return the instance's report, or None if it ended without one."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n") and len(line) < _REPORT_BYTES:
        try:
            data = await loop.sock_recv(control, _REPORT_BYTES)
        except ConnectionError:
            return None
        if not data:
            return None
        line += data
    return Report(**json.loads(line))
