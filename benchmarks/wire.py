"""A TCP proxy that counts what a client says to Postgres: the truth about round trips.

Message formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Wire", "wire"]

_SSL_REQUEST = 80877103


@dataclass(slots=True)
class Wire:
    """What has gone over the wire since the last `reset`."""

    url: str
    """The database, by way of the proxy."""

    round_trips: int = 0
    """How often a client asked for an answer: Sync, Query and Flush messages."""

    connections: int = 0
    executed: list[tuple[float, str]] = field(default_factory=list)
    """Every statement that was executed: when, by `time.monotonic`, and its text."""

    def reset(self) -> None:
        """Begin to count anew."""
        self.round_trips = 0
        self.connections = 0
        self.executed.clear()

    @property
    def listens(self) -> int:
        """How many LISTEN statements were executed."""
        return sum(text.lstrip().upper().startswith("LISTEN") for _, text in self.executed)


@asynccontextmanager
async def wire(url: str) -> AsyncGenerator[Wire]:
    """Put a proxy before the database."""
    parts = urlsplit(url)
    upstream = (parts.hostname or "127.0.0.1", parts.port or 5432)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counts.connections += 1
        database_reader, database_writer = await asyncio.open_connection(*upstream)
        back = asyncio.create_task(_forward(database_reader, writer))
        await _forward(reader, database_writer, _Listener(counts))
        await back

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = parts.netloc.rpartition("@")[0]
    netloc = f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"
    counts = Wire(urlunsplit(parts._replace(netloc=netloc, query="sslmode=disable")))
    try:
        yield counts
    finally:
        server.close()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener: _Listener | None = None
) -> None:
    try:
        while data := await reader.read(65536):
            if listener is not None:
                listener.feed(data)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class _Listener:
    """Reads one connection's messages from client to server."""

    def __init__(self, counts: Wire) -> None:
        self._counts = counts
        self._buffer = b""
        self._in_startup = True
        self._statements: dict[bytes, str] = {}
        self._bound = b""

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while (message := self._next()) is not None:
            self._count(*message)

    def _next(self) -> tuple[bytes, bytes] | None:
        # The messages before the session's have no kind: length and body only.
        kind_length = 0 if self._in_startup else 1
        head = kind_length + 4
        if len(self._buffer) < head:
            return None
        end = kind_length + int.from_bytes(self._buffer[kind_length:head], "big")
        if len(self._buffer) < end:
            return None
        kind, body, self._buffer = self._buffer[:kind_length], self._buffer[head:end], self._buffer[end:]
        if self._in_startup:
            self._in_startup = int.from_bytes(body[:4], "big") == _SSL_REQUEST
        return kind, body

    def _count(self, kind: bytes, body: bytes) -> None:
        if kind in {b"S", b"Q", b"H"}:
            self._counts.round_trips += 1
        if kind == b"P":
            name, text, *_ = body.split(b"\0")
            self._statements[name] = text.decode()
        elif kind == b"B":
            self._bound = body.split(b"\0")[1]
        elif kind == b"E":
            self._executed(self._statements.get(self._bound, "?"))
        elif kind == b"Q":
            self._executed(body.rstrip(b"\0").decode())

    def _executed(self, text: str) -> None:
        self._counts.executed.append((time.monotonic(), text))
