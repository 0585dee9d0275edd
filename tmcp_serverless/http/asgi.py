"""ASGI primitives that the transports share: reading a request, answering it, refusing it, observing it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Protocol, TypeAlias

from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.http.client_stream import ClientStream
from tmcp_serverless.http.platform import PLATFORM_EXTENSION, Platform

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "OBSERVED_EXTENSION",
    "PARSE_ERROR",
    "ROOM_EXTENSION",
    "STOPPED",
    "ASGIApp",
    "Headers",
    "HttpProblem",
    "Message",
    "Receive",
    "Request",
    "Room",
    "Scope",
    "Send",
    "as_routed",
    "note",
    "path_of",
    "platform_of",
    "refusal_of",
    "respond",
    "until_disconnected",
]

logger = logging.getLogger(__name__)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers: TypeAlias = list[tuple[bytes, bytes]]

INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
PARSE_ERROR = -32700
INTERNAL_ERROR = -32603
METHOD_NOT_FOUND = -32601

STOPPED = "The instance that ran this request was stopped; call again"
"""Error message of a request when its host is stopping."""

OBSERVED_EXTENSION = "tmcp_serverless.observed"
"""Key in the ASGI scope's `extensions` for the callback of the request's observer."""

ROOM_EXTENSION = "tmcp_serverless.room"
"""Key in the ASGI scope's `extensions` for the `Room` of the request's connection."""

_NOT_WANTED = re.compile(r"q\s*=\s*0(\.0*)?")
"""Weight of a media type that a client does not accept (RFC 9110, section 12.4.2)."""

_JSON: Headers = [(b"content-type", b"application/json")]

_SMALL_BYTES = 16 * 1024
"""A shorter body is read without asking for room."""

_HAVE_ONE_VALUE = frozenset({"content-type", "last-event-id", "mcp-protocol-version", "mcp-session-id"})
"""Headers that mean nothing with two values."""


class HttpProblem(Exception):  # noqa: N818 - an answer, not a failure of ours
    """HTTP response that refuses the request, with a JSON-RPC error as its body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: int = INVALID_REQUEST,
        headers: Headers | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or []
        self.data = data

    async def answer(self, send: Send) -> None:
        """Send the response."""
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.data is not None:
            error["data"] = self.data
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}, separators=(",", ":"))
        await respond(send, self.status, body.encode(), [*_JSON, *self.headers])


_UNAVAILABLE = HttpProblem(
    503,
    "The session store cannot be reached; try again",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"1")],
)
_NOT_READY = HttpProblem(
    503,
    "The server is not configured rightly; its log says what to change",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"5")],
)

_NO_ROOM = (
    "The bodies and responses that are on their way take all of TMCP_MAX_BYTES_IN_FLIGHT; try again later"
)


def refusal_of(error: TmcpError) -> HttpProblem:
    """Return the response to a request that failed with this error. The log has the reason."""
    return _NOT_READY if isinstance(error, ConfigurationError) else _UNAVAILABLE


async def respond(send: Send, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
    """Send a whole response. It is dropped if the client is gone."""
    client = ClientStream(send)
    await client.start(status, headers or [])
    await client.end(body)


def note(scope: Scope, what: str) -> None:
    """Count an event that only its transport sees. Without an observer, nothing happens."""
    tell = (scope.get("extensions") or {}).get(OBSERVED_EXTENSION)
    if tell is not None:
        tell(what)


async def until_disconnected(receive: Receive) -> None:
    """Wait until the server says that the client is gone, or that it has closed the connection itself."""
    while (await receive())["type"] != "http.disconnect":
        pass


def platform_of(scope: Scope) -> Platform:
    """Return the platform that made the scope; a container if the scope names none."""
    return (scope.get("extensions") or {}).get(PLATFORM_EXTENSION) or Platform()


def path_of(scope: Scope) -> str:
    """Return the path inside the application, without a slash at its end."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/")).rstrip("/")


def as_routed(scope: Scope, paths: Collection[str]) -> Scope:
    """Return the scope with its path as a server's own router knows it, if the path is one of these.

    The router would redirect otherwise, and clients drop bodies when they are redirected.
    """
    path = path_of(scope)
    if path not in paths or (path and not scope["path"].endswith("/")):
        return scope
    return {**scope, "path": scope["path"].rstrip("/") if path else f"{scope['path'].rstrip('/')}/"}


class Room(Protocol):
    """Room for bodies in the memory of a process."""

    def admits(self, declared: int) -> bool:
        """Return `True` if a body of so many bytes may be read."""
        ...


class Request:
    """HTTP request: its method, its headers, and its body on demand.

    Raises:
        HttpProblem: 400 when a header that has one value is there with two. The same value may be repeated.

    """

    __slots__ = ("_receive", "headers", "method", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name not in self.headers:
                self.headers[name] = value
            elif name not in _HAVE_ONE_VALUE:
                # A repeated header is one list (RFC 9110, section 5.3).
                self.headers[name] += f", {value}"
            elif self.headers[name] != value:
                raise HttpProblem(400, f"Bad Request: two values of the header {name}")
        self._receive = receive

    async def body(self, *, limit_bytes: int) -> bytes:
        """Read the body.

        Raises:
            HttpProblem: 413 when the body is longer than the limit, 400 when the client left before its end,
                503 when other bodies and responses leave no room for it.

        """
        declared = self.headers.get("content-length", "")
        if _is_more_than(declared, limit_bytes):
            raise self._too_large(limit_bytes)
        if _is_more_than(declared, _SMALL_BYTES):
            self._ask_for_room(int(declared))
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise HttpProblem(400, "The client left before the end of the body")
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > limit_bytes:
                raise self._too_large(limit_bytes)
            return body
        chunks = bytearray(body)
        while message.get("more_body", False):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise HttpProblem(400, "The client left before the end of the body")
            chunks += message.get("body", b"")
            if len(chunks) > limit_bytes:
                raise self._too_large(limit_bytes)
            self._ask_for_room(len(chunks))
        return bytes(chunks)

    def _ask_for_room(self, length: int) -> None:
        room: Room | None = (self.scope.get("extensions") or {}).get(ROOM_EXTENSION)
        if room is not None and not room.admits(length):
            note(self.scope, "RefusedBodies")
            raise HttpProblem(503, _NO_ROOM, code=INTERNAL_ERROR, headers=[(b"retry-after", b"1")])

    async def receive(self) -> Message:
        """Return the next ASGI message. A client counts as gone if the server raises an error."""
        try:
            return await self._receive()
        except Exception as error:  # noqa: BLE001 - servers, proxies and test clients each raise their own
            logger.info("a client counts as gone: its server raised %s", type(error).__qualname__)
            return {"type": "http.disconnect"}

    async def disconnected(self) -> None:
        """Wait until the client is gone."""
        await until_disconnected(self.receive)

    def accepts(self) -> tuple[bool, bool]:
        """Return two booleans: the client accepts JSON, and the client accepts an event stream."""
        accept = self.headers.get("accept", "")
        if accept == "application/json, text/event-stream":
            return True, True
        # A media range that is named twice is wanted if it is wanted once: that pair comes last, and stays.
        wanted = dict(sorted(_media_range(part) for part in accept.split(",")))
        return (
            _first(wanted, "application/json", "application/*", "*/*"),
            _first(wanted, "text/event-stream", "text/*", "*/*"),
        )

    @staticmethod
    def _too_large(limit_bytes: int) -> HttpProblem:
        return HttpProblem(413, f"Request body too large: at most {limit_bytes} bytes are accepted")


def _is_more_than(declared: str, limit: int) -> bool:
    digits = declared.lstrip("0")
    if not (digits.isascii() and digits.isdigit()):
        return False
    # Python does not parse a number of thousands of digits.
    return len(digits) > len(str(limit)) or int(digits) > limit


def _media_range(text: str) -> tuple[str, bool]:
    """Return a part of an `Accept` header: the media range, and `True` if it is wanted."""
    name, *parameters = (each.strip().lower() for each in text.split(";"))
    return name, not any(_NOT_WANTED.fullmatch(parameter) for parameter in parameters)


def _first(wanted: dict[str, bool], *ranges: str) -> bool:
    """Return the value of the first range that is named, which is the most specific; `False` if none is."""
    return next((wanted[each] for each in ranges if each in wanted), False)
