"""The network between the instances and Postgres: a TCP proxy whose links can be cut, silenced and slowed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

__all__ = ["Proxy", "reset"]

_CHUNK_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a peer does that has crashed or forgotten the connection."""
    link: socket.socket | None = writer.get_extra_info("socket")
    if link is not None and link.fileno() >= 0:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


class _Link:
    """One connection through the proxy: both its halves."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.stranded = False

    def cut(self) -> None:
        for writer in self.writers:
            reset(writer)


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target_port`.

    * `cut`, `cut_one`: every link, or one, is reset, on both sides.
    * `hold` … `forward`: nothing passes, not even that a side has closed; new connections are accepted and
      lead nowhere. At the end all of it passes, as TCP retransmits what a partition swallowed.
    * `strand`: the links of now are silent for good, without a word to either side, as behind a NAT that has
      forgotten them; new ones work.
    * `delay_seconds`: how long each chunk takes, in each direction.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self.delay_seconds = 0.0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> int:
        """Reset every link; return how many there were."""
        links = [link for link in self._links if not link.stranded]
        for link in links:
            link.cut()
        return len(links)

    def cut_one(self, number: int) -> None:
        """Reset one link."""
        links = [link for link in self._links if not link.stranded]
        if links:
            links[number % len(links)].cut()

    def hold(self) -> None:
        """Let nothing pass until `forward`."""
        self._open.clear()

    def forward(self) -> None:
        """Let everything pass again, what was held first."""
        self._open.set()

    def strand(self) -> int:
        """Let nothing pass on the links of now, ever; return how many there are."""
        links = [link for link in self._links if not link.stranded]
        for link in links:
            link.stranded = True
        return len(links)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            await self._open.wait()
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            link.writers.append(up_writer)
            await self._pipe_both(link, (reader, up_writer), (up_reader, writer))
        except OSError:
            link.cut()
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.close()

    async def _pipe_both(self, link: _Link, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        pipes = [asyncio.create_task(self._pipe(link, *way)) for way in ways]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)

    async def _pipe(self, link: _Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        data = b"."
        while data:
            data = b""
            with contextlib.suppress(OSError):
                data = await source.read(_CHUNK_BYTES)
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._open.wait()
            if link.stranded:
                await asyncio.Event().wait()  # until the proxy ends, which cancels this
            with contextlib.suppress(OSError):
                sink.write(data)
                await sink.drain()
