"""A way to the cluster that can be cut: all connections at once, as when a network goes away for a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tmcp_serverless.dev.balancer import Balancer, listen

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Cutter"]


class Cutter:
    """Passes connections on to the ports of URLs, in turn, and cuts them: `async with Cutter(url)`."""

    def __init__(self, *urls: str) -> None:
        self._ports = [urlsplit(url).port or 80 for url in urls]
        self.cuts = 0

    @property
    def url(self) -> str:
        """The MCP endpoint, by the way that can be cut."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}/mcp"

    def lead_to(self, *ports: int) -> None:
        """Pass new connections on to these ports."""
        self._ports = [*ports]

    async def cut(self) -> None:
        """Close every connection, whatever is on its way. New ones are accepted."""
        self.cuts += 1
        await self._stop()
        self._start()

    async def __aenter__(self) -> Self:
        self._listener = listen("127.0.0.1", 0)
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        self._listener.close()

    def _start(self) -> None:
        balancer = Balancer(self._listener, lambda: self._ports)
        self._passing_on = asyncio.create_task(balancer.run(), name="cutter")

    async def _stop(self) -> None:
        self._passing_on.cancel()
        await asyncio.wait({self._passing_on})
