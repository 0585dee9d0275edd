"""Bounds of a container's connections: their number, their times, and the bytes that are on their way.

Everything is counted in uvicorn's protocol, below the application: routes of one's own are bounded as well. A
request that arrives whole and a response that the socket takes at once set no timer. One timer for all
connections runs while a client has to send or to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from tmcp_serverless.hosts.descriptors import most_connections
from tmcp_serverless.http import ROOM_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from tmcp_serverless.http import ConnectionOptions, Receive, Scope, Send
else:
    _Protocol = object

__all__ = ["BoundedProtocol", "Connections", "bounded_protocol"]

logger = logging.getLogger(__name__)

_PROGRESS_BYTES = 16 * 1024
"""Bytes that a client has to send or to read in its time. A few bytes now and then are no progress."""

_STALLED_SECONDS = 1.0
"""A body or a response without progress for so long makes room for others, if all bytes are taken."""

_HARD_SHARE = 1.25
"""Share of the bytes at which a transfer that makes progress is cut off too. No route is above it."""

_WARNING_SECONDS = 60.0

_PARTS = 8
"""Checks of the connections in the time that a client has."""

_REASONS = {
    "ConnectionsReplaced": "idle connections closed for new ones (TMCP_MAX_CONNECTIONS, or open files)",
    "ConnectionsRefused": "connections refused, for all others were busy (TMCP_MAX_CONNECTIONS)",
    "HeadsTimedOut": "connections closed without the head of a request (TMCP_CLIENT_SECONDS)",
    "BodiesTimedOut": "connections closed within a request's body (TMCP_CLIENT_SECONDS)",
    "UnreadTimedOut": "connections closed with a response that was not read (TMCP_CLIENT_SECONDS)",
    "TransfersCutOff": "connections cut off to make room (TMCP_MAX_BYTES_IN_FLIGHT)",
}

_FULL = b"Too many connections (TMCP_MAX_CONNECTIONS), and none is idle; try again\n"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


class Connections:
    """The connections of one server, and the bounds that they share.

    Args:
        options: The settings.
        count: Counts a closed connection for the metrics, by the metric's name.

    """

    def __init__(self, options: ConnectionOptions, *, count: Callable[[str], None] | None = None) -> None:
        self._most = options.max_connections or most_connections()
        self._most_bytes = options.max_bytes_in_flight
        self._seconds = options.client_seconds
        self._count = count
        self._open: set[BoundedProtocol] = set()
        self.heads: dict[BoundedProtocol, None] = {}
        """Those whose request's head is not complete, the one that waits longest first."""
        self.bodies: dict[BoundedProtocol, None] = {}
        """Those whose request's body is not complete."""
        self.unread: dict[BoundedProtocol, None] = {}
        """Those with bytes that the socket did not take."""
        self.idle: dict[BoundedProtocol, None] = {}
        """Those whose last response is complete, the one that is idle longest first."""
        self.bytes = 0
        """Bytes of requests whose responses are not complete, and of responses that are not read."""
        self._timer: asyncio.TimerHandle | None = None
        self._said: Counter[str] = Counter()
        self._warned_at = float("-inf")

    def add(self, connection: BoundedProtocol) -> None:
        """Add a new connection. An idle one is closed if there are too many, else the new one."""
        self._open.add(connection)
        connection.move(self.heads)
        if len(self._open) > self._most and not self.make_room(besides=connection):
            connection.transport.write(_REFUSAL)
            connection.transport.close()
            self._end(connection, "ConnectionsRefused", abort=False)

    def remove(self, connection: BoundedProtocol) -> None:
        """Remove a connection, and its bytes. Idempotent."""
        self._open.discard(connection)
        connection.move(None)
        connection.release()
        connection.read_all()

    def make_room(self, *, besides: BoundedProtocol | None = None) -> bool:
        """Close a connection without a request: the oldest without a head, else the one idle for longest."""
        for place in (self.heads, self.idle):
            for connection in place:
                if connection is not besides:
                    self._end(connection, "ConnectionsReplaced")
                    return True
        return False

    def relieve(self, more: int = 0) -> None:
        """Cut off stalled transfers, the longest stalled first, until there is room for more bytes."""
        if self.bytes + more <= self._most_bytes:
            return
        now = asyncio.get_running_loop().time()
        for connection in sorted(
            {**self.heads, **self.bodies, **self.unread}, key=lambda each: each.progress_at
        ):
            stalled = now - connection.progress_at >= _STALLED_SECONDS
            if not stalled and self.bytes <= self._most_bytes * _HARD_SHARE:
                return
            self._end(connection, "TransfersCutOff")
            if self.bytes + more <= self._most_bytes:
                return

    def has_room(self, more: int, *, besides: int) -> bool:
        """Return `True` if there is room, or nothing else is on its way: one body is always accepted."""
        self.relieve(more)
        return self.bytes + more <= self._most_bytes or self.bytes <= besides

    def watch(self) -> None:
        """Start the timer if it does not run."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds / _PARTS, self._look)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        expired_at = asyncio.get_running_loop().time() - self._seconds
        late = [each for each in self.heads if each.progress_at <= expired_at]
        for connection in late:
            self._end(connection, "HeadsTimedOut")
        for connection in list(self.bodies):
            if connection.waits_for_application:
                connection.has_progressed()
            elif connection.progress_at <= expired_at:
                self._end(connection, "BodiesTimedOut")
        for connection in list(self.unread):
            connection.measure()
            if connection.progress_at <= expired_at:
                self._end(connection, "UnreadTimedOut")
        if self.heads or self.bodies or self.unread:
            self.watch()

    def _end(self, connection: BoundedProtocol, reason: str, *, abort: bool = True) -> None:
        self.remove(connection)
        if abort:
            connection.transport.abort()
        self._said[reason] += 1
        if self._count is not None:
            self._count(reason)
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            logger.warning(
                "%s", "; ".join(f"{number} {_REASONS[each]}" for each, number in self._said.items())
            )
            self._said.clear()


class BoundedProtocol(_Protocol):
    """Mixin for uvicorn's protocols of HTTP/1.1, with h11 or httptools. It tells `Connections` of changes.

    It is the request's room too: `Request.body` asks it before it reads.
    """

    bounds: Connections
    progress_at = 0.0
    """Time of the last progress: of the connection's state, or of so many bytes that they count."""

    _place: dict[BoundedProtocol, None] | None = None
    _moved = 0
    _received = 0
    _to_read = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start with the time for a head. A write that the socket does not take at once is seen."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1)
        self._application = self.app
        self.app = self._run
        self.bounds.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self.bounds.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes, but not those of a body whose response is complete: uvicorn drops them."""
        super().data_received(data)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_dropped = cycle is not None and cycle.response_complete and cycle.more_body
        if not is_dropped and not self.transport.is_closing():
            self._received += len(data)
            self.bounds.bytes += len(data)
            self._move_bytes(len(data))
            self.bounds.relieve()
        self._settle()

    def on_response_complete(self) -> None:
        """Give back the body's bytes."""
        self.release()
        super().on_response_complete()
        cycle = self.cycle
        if cycle.response_complete and not cycle.more_body:
            self.move(self.bounds.idle)
        else:
            # The client has its time to send the rest of a body that nobody reads, or the next request runs.
            self._settle()

    def pause_writing(self) -> None:
        """Count the bytes that wait for the client."""
        super().pause_writing()
        self.has_progressed()
        self._to_read = self.transport.get_write_buffer_size()
        self.bounds.bytes += self._to_read
        self.bounds.unread[self] = None
        self.bounds.watch()
        self.bounds.relieve()

    def resume_writing(self) -> None:
        """Give back the response's bytes."""
        self.read_all()
        super().resume_writing()

    def handle_websocket_upgrade(self, *given: Any, **named: Any) -> None:
        """Leave the connection to the other protocol."""
        self.bounds.remove(self)
        super().handle_websocket_upgrade(*given, **named)

    def admits(self, declared: int) -> bool:
        """Return `True` if a body of so many bytes may be read."""
        more = max(0, declared - self._received)
        return self.bounds.has_room(more, besides=self._received)

    def move(self, place: dict[BoundedProtocol, None] | None) -> None:
        """Move the connection to the end of another place; `None` if the client has nothing to do."""
        if place is self._place:
            return
        if self._place is not None:
            del self._place[self]
        self._place = place
        if place is None:
            return
        place[self] = None
        if place is not self.bounds.idle:
            self.has_progressed()
            self.bounds.watch()

    @property
    def waits_for_application(self) -> bool:
        """`True` if the client could send more of the body, and the application does not read it."""
        reads = not self.flow.read_paused and not self.cycle.waiting_for_100_continue
        return not reads and self not in self.bounds.unread

    def has_progressed(self) -> None:
        """Start the client's time anew."""
        self.progress_at = self.loop.time()
        self._moved = 0

    def measure(self) -> None:
        """Count what the client has read since the last time."""
        size = self.transport.get_write_buffer_size()
        self.bounds.bytes += size - self._to_read
        self._move_bytes(max(0, self._to_read - size))
        self._to_read = size

    def release(self) -> None:
        """Give back the bytes of the request."""
        self.bounds.bytes -= self._received
        self._received = 0

    def read_all(self) -> None:
        """Give back the bytes of the response."""
        self.bounds.bytes -= self._to_read
        self._to_read = 0
        self.bounds.unread.pop(self, None)

    def _move_bytes(self, number: int) -> None:
        self._moved += number
        if self._moved >= _PROGRESS_BYTES:
            self.has_progressed()

    def _settle(self) -> None:
        if self.transport.is_closing():
            return
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete:
            self.move(self.bounds.heads)
        else:
            self.move(self.bounds.bodies if cycle.more_body else None)

    def _run(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["extensions"] = {**scope.get("extensions", {}), ROOM_EXTENSION: self}
        return self._application(scope, receive, send)  # type: ignore[arg-type]


def bounded_protocol(base: type[asyncio.Protocol], connections: Connections) -> type[asyncio.Protocol]:
    """Return a subclass of uvicorn's protocol that keeps the bounds; any other protocol as it is."""
    if issubclass(base, BoundedProtocol):  # The server starts for the second time.
        return type(base.__name__, (base,), {"bounds": connections})
    if base.__name__ not in {"H11Protocol", "HttpToolsProtocol"}:
        logger.warning(
            "connections have no bounds over %s: use uvicorn's `h11` or `httptools`", base.__name__
        )
        return base
    return type(f"Bounded{base.__name__}", (BoundedProtocol, base), {"bounds": connections})
