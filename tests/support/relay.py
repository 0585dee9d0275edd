"""A relay before a real server, which may be slow to let clients in, or refuse them, as other versions do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

__all__ = ["Judge", "error_message", "relay"]

Judge: TypeAlias = "Callable[[Mapping[str, str]], tuple[str, str] | None]"
"""Takes a client's startup parameters; returns an SQLSTATE and a message where it is refused."""

_TLS_REQUEST = 80877103


def error_message(code: str, message: str) -> bytes:
    """Return a server's ErrorResponse."""
    fields = "".join(f"{key}{value}\0" for key, value in (("S", "FATAL"), ("C", code), ("M", message)))
    body = fields.encode() + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


async def _piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _packet(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "big") - 4)


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    packet = await _packet(reader)
    if int.from_bytes(packet[4:8], "big") == _TLS_REQUEST:
        writer.write(b"N")
        packet = await _packet(reader)
    return packet


@asynccontextmanager
async def relay(url: str, *, delay_seconds: float = 0.0, judge: Judge | None = None) -> AsyncGenerator[str]:
    """Run a relay to the server, and return the URL of it. The delay counts from the relay's start."""
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    opens_at = loop.time() + delay_seconds

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(max(0.0, opens_at - loop.time()))
        try:
            packet = await _startup(reader, writer)
        except (OSError, EOFError):
            writer.close()
            return
        words = packet[8:].decode().split("\0")
        refused = judge(dict(zip(words[::2], words[1::2], strict=False))) if judge else None
        if refused is not None:
            writer.write(error_message(*refused))
            writer.close()
            return
        there, back = await asyncio.open_connection(place.hostname, place.port)
        back.write(packet)
        await asyncio.gather(_piped(reader, back), _piped(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield url.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{port}", 1)
    finally:
        server.close()
