"""The program of an instance: `python -m tests.fuzz.instance MODULE FOLDER NAME`, with its logs at DEBUG.

Everything that it logs goes to its standard error.
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.watchdog import Watchdog
from tmcp_serverless.hosts.container import DrainingServer, configure, listen
from tmcp_serverless.hosts.descriptors import raise_descriptor_limit

if TYPE_CHECKING:
    import socket

    import uvicorn


class _Watched(DrainingServer):
    """The container host with a watchdog in its loop. It prints its port when it listens."""

    def __init__(self, config: uvicorn.Config, watchdog: Watchdog) -> None:
        super().__init__(config)
        self._watchdog = watchdog

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._watchdog.start()
        if self.started and sockets:
            print(sockets[0].getsockname()[1], flush=True)


def main(module: str, folder: str, name: str) -> None:
    """Serve the module's `app` until SIGTERM."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    faulthandler.enable()
    raise_descriptor_limit()
    app = importlib.import_module(module).app
    config = configure(app, log_config=None, log_level="debug")
    _Watched(config, Watchdog(Path(folder) / f"{name}.pauses")).run(listen("127.0.0.1", 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
