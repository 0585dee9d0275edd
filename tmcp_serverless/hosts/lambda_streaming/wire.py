"""One HTTP/1.1 connection to the Runtime API: h11 over asyncio's streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import h11

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "Connection"]

_READ_BYTES = 262_144
_HEAD_BYTES = 65_536
"""The longest head of an answer: `next` brings the client context in a header."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the Runtime API."""

    status: int
    headers: Mapping[str, str]
    """Values by header names in lower case."""

    body: bytes


class Connection:
    """A connection that carries one request after another.

    Every method raises `OSError` if the other side is gone, or does not speak HTTP. The connection is of no
    use then.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._unsent: list[bytes] = []

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect to `HOST:PORT`."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        return cls(reader, writer, address)

    @property
    def usable(self) -> bool:
        """True if another request can be sent, as far as this side knows."""
        return (
            self._http.our_state is h11.IDLE
            and not self._reader.at_eof()
            and not self._writer.transport.is_closing()
        )

    async def request(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Answer:
        """Send a request whole, and return its answer."""
        self.begin(method, path, [*headers, ("Content-Length", str(len(body)))])
        self._queue(h11.Data(body))
        return await self.finish()

    def begin(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a request; its head leaves with the first piece of its body."""
        self._queue(h11.Request(method=method, target=path, headers=[("Host", self._host), *headers]))

    async def write(self, data: bytes) -> None:
        """Send a piece of the body at once; wait while the other side is slow."""
        self._queue(h11.Data(data))
        await self._flush()

    async def finish(self, trailers: Sequence[tuple[str, str]] = ()) -> Answer:
        """End the request, and return its answer."""
        self._queue(h11.EndOfMessage(headers=list(trailers)))
        await self._flush()
        answer = await self._answer()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection at once, even during a request."""
        self._writer.transport.abort()

    def _queue(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise ConnectionError(f"the connection cannot send now: {error}") from error
        if data:
            self._unsent.append(data)

    async def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        self._writer.write(data)
        await self._writer.drain()

    async def _answer(self) -> Answer:
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Answer(head.status_code, headers, bytes(body))
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the Runtime API closed the connection")

    async def _event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
        except h11.RemoteProtocolError as error:
            raise ConnectionResetError(f"the Runtime API's answer is broken: {error}") from error
        return event
