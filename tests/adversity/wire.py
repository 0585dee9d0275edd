"""HTTP and server-sent events over a socket of our own, which can be reset at any byte."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.adversity.proxy import reset

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Answer", "BrokenError", "Event", "request"]

_VERSION = "2025-11-25"
_CONNECT_SECONDS = 5.0


class BrokenError(Exception):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; without data it is an id to resume from, or a hint when to come back."""

    id: str | None
    data: str
    retry: int | None


class Answer:
    """An HTTP answer whose body is still to come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    @property
    def instance(self) -> str:
        """Which instance answers."""
        return self.headers.get("x-tmcp-instance", "?")

    def write(self, data: bytes) -> None:
        """Send the request."""
        self._writer.write(data)

    def abort(self) -> None:
        """Reset the connection."""
        reset(self._writer)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def read_head(self) -> None:
        """Read the status and the headers."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (OSError, asyncio.IncompleteReadError) as error:
            raise BrokenError(f"no answer: {error!r}") from error
        status, *lines = head.rstrip().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Read the body; its end is an end only where HTTP says so."""
        try:
            if "content-length" in self.headers:
                yield await self._reader.readexactly(int(self.headers["content-length"]))
                return
            while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise BrokenError(f"cut: {error!r}") from error

    async def message(self) -> Any:
        """Read the body as one JSON value; `None` when it is empty."""
        body = b"".join([chunk async for chunk in self.chunks()])
        try:
            return json.loads(body) if body else None
        except ValueError:
            raise BrokenError(f"an answer that is no JSON: {body[:200]!r}") from None

    async def events(self) -> AsyncGenerator[Event]:
        """Read the body as events. One that was cut off before its end is none."""
        buffer = b""
        async for chunk in self.chunks():
            buffer += chunk
            *blocks, buffer = buffer.split(b"\n\n")
            for block in blocks:
                yield _event(block.decode())


def _event(block: str) -> Event:
    fields = {
        name: value.removeprefix(" ") for name, _, value in (x.partition(":") for x in block.split("\n"))
    }
    retry = fields.get("retry")
    return Event(fields.get("id"), fields.get("data", ""), int(retry) if retry else None)


async def request(
    port: int,
    method: str,
    *,
    session: str | None,
    message: Any = None,
    last_event_id: str | None = None,
    head_seconds: float,
) -> Answer:
    """Send a request and return its answer as soon as the headers are there.

    Raises:
        BrokenError: The connection could not be made, ended, or was silent for too long.

    """
    body = b"" if message is None else json.dumps(message).encode()
    head = {
        "host": f"127.0.0.1:{port}",
        "accept": "text/event-stream" if method == "GET" else "application/json, text/event-stream",
        "content-type": "application/json" if message is not None else None,
        "content-length": str(len(body)),
        "mcp-session-id": session,
        "mcp-protocol-version": _VERSION if session else None,
        "last-event-id": last_event_id,
    }
    lines = [f"{method} /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in head.items() if value)]
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            answer = Answer(*await asyncio.open_connection("127.0.0.1", port))
    except (OSError, TimeoutError) as error:
        raise BrokenError(f"no connection: {error!r}") from error
    try:
        await _send(answer, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, head_seconds)
    except BaseException:
        answer.abort()
        raise
    return answer


async def _send(answer: Answer, data: bytes, head_seconds: float) -> None:
    try:
        answer.write(data)
        async with asyncio.timeout(head_seconds):
            await answer.read_head()
    except OSError as error:  # TimeoutError is one
        raise BrokenError(f"no answer: {error!r}") from error
