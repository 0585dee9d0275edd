"""Raw HTTP/1.1 over TCP: pieces as they are, and whatever comes back, read with patience."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.inputs import Input

__all__ = ["Link", "Response"]

_NOT_OWED_SECONDS = 0.15
_BODY_SECONDS = 30.0
_REST_SECONDS = 1.0
"""Time for the rest of an input whose answer has come before its end."""

_LONGEST_HEAD = 1 << 20
_CHUNK_BYTES = 65_536


@dataclass
class Response:
    """What came back."""

    status: int = 0
    """0 if the connection ended without an answer."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    head: bytes = b""
    body: bytes = b""
    has_hung: bool = False
    seconds: float = 0.0

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


class Link:
    """A connection to one instance, opened when it is needed and kept while HTTP allows that."""

    def __init__(self, port: int, *, hang_seconds: float) -> None:
        self._port = port
        self._hang_seconds = hang_seconds
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(
        self, sent: Input, *, on_stream: Callable[[Response], Callable[[bytes], None]]
    ) -> Response:
        """Send the input, and return what came back. Pieces of a stream are also passed on as they come."""
        response = Response()
        began = time.monotonic()
        is_new = self._writer is None
        keeps = False
        try:
            keeps = await self._exchange(sent, response, on_stream)
        except TimeoutError:
            response.has_hung = True
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            response.seconds = time.monotonic() - began
            if not keeps or sent.ends_connection:
                self.close()
        if response.status == 0 and sent.is_owed and not is_new and not response.has_hung:
            return await self.exchange(sent, on_stream=on_stream)  # The server had closed it meanwhile.
        return response

    def close(self) -> None:
        """Drop the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _exchange(
        self, sent: Input, response: Response, on_stream: Callable[[Response], Callable[[bytes], None]]
    ) -> bool:
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=_LONGEST_HEAD
            )
        reader, writer = self._reader, self._writer
        if sent.is_abandoned:
            await _send(writer, sent)
            return False
        sending = asyncio.create_task(_send(writer, sent))
        try:
            has_head = await self._read_head(reader, writer, sent, response)
            if has_head:
                await asyncio.wait({sending}, timeout=_REST_SECONDS)
        finally:
            is_sent = sending.done()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if not has_head:
            return False
        if response.is_stream:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(sent.patience_seconds):
                    return await _read_body(reader, sent, response, on_stream(response)) and is_sent
            return False
        async with asyncio.timeout(_BODY_SECONDS):
            return await _read_body(reader, sent, response, lambda _: None) and is_sent

    async def _read_head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Input, response: Response
    ) -> bool:
        """Read the head; return `False` if none came, and none was owed."""
        if sent.is_owed:
            async with asyncio.timeout(self._hang_seconds):
                await _read_one_head(reader, response)
            return True
        for _ in range(2):
            try:
                async with asyncio.timeout(_NOT_OWED_SECONDS + sum(_pauses(sent))):
                    await _read_one_head(reader, response)
            except TimeoutError:
                if writer.can_write_eof() and not writer.is_closing():
                    writer.write_eof()
            else:
                return True
        return False


async def _send(writer: asyncio.StreamWriter, sent: Input) -> None:
    with contextlib.suppress(OSError):
        for piece in sent.pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)


def _pauses(sent: Input) -> list[float]:
    return [piece for piece in sent.pieces if isinstance(piece, float)]


async def _read_one_head(reader: asyncio.StreamReader, response: Response) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        if status >= 200:
            break
    response.head, response.status = head, status
    for line in lines:
        name, _, value = line.partition(":")
        response.headers[name.strip().lower()] = value.strip()


async def _read_body(
    reader: asyncio.StreamReader, sent: Input, response: Response, take: Callable[[bytes], None]
) -> bool:
    """Read the body, and return `True` if the connection can be used again."""

    def add(data: bytes) -> None:
        response.body += data
        take(data)

    headers = response.headers
    if sent.data.startswith(b"HEAD ") or response.status in (204, 304):
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            add(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
    elif "content-length" in headers:
        add(await reader.readexactly(int(headers["content-length"])))
    else:
        while data := await reader.read(_CHUNK_BYTES):
            add(data)
        return False
    return headers.get("connection", "").lower() != "close"
