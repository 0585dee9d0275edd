"""Inputs: an HTTP request as it is meant, and its bytes as they are sent: whole, split, slow or broken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fuzz.grammar import dumped, header_value, mutated_bytes, mutated_json, mutated_text, text

if TYPE_CHECKING:
    from tests.fuzz.grammar import Draw

__all__ = ["Input", "Plan", "as_input", "mutate", "whole_input"]

_METHODS = (
    b"GET",
    b"POST",
    b"DELETE",
    b"OPTIONS",
    b"HEAD",
    b"PUT",
    b"PATCH",
    b"TRACE",
    b"BREW",
    b"get",
    b"A" * 40,
)
_TARGETS = (
    b"/mcp",
    b"/mcp/",
    b"/mcp?x=1",
    b"/mcp%2f",
    b"/MCP",
    b"//mcp",
    b"/mcp/../mcp",
    b"/sse",
    b"/sse/",
    b"/message",
    b"/message?session_id=",
    b"/message?session_id=x&session_id=y",
    b"/message?session_id=sse-" + b"a" * 43,
    b"/healthz",
    b"/readyz",
    b"/",
    b"",
    b"*",
    b"/custom/x",
    b"/custom/%00%ff",
    b"/.well-known/oauth-protected-resource",
    b"/.well-known/oauth-protected-resource/mcp",
    b"/.well-known/oauth-authorization-server",
    b"http://evil.example/mcp",
    b"/%ff%fe",
    b"/\xff",
    b"/mcp?" + b"a=" * 2_000,
    b"/" + b"a" * 9_000,
)
_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"XTTP/1.1", b"")
_NAMES = (
    b"accept",
    b"content-type",
    b"host",
    b"origin",
    b"mcp-session-id",
    b"mcp-protocol-version",
    b"last-event-id",
    b"mcp-method",
    b"mcp-name",
    b"mcp-param-text",
    b"authorization",
    b"cookie",
    b"access-control-request-method",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"if-none-match",
    b"range",
    b"accept-encoding",
    b"content-encoding",
    b"traceparent",
    b"x" * 300,
)
_REPEATED = 2
"""Percent of the inputs that are sent twice at once. Nobody waits for the second answer."""

_HEADS_THAT_BREAK = (
    b"no colon",
    b" continued: line",
    b"na me: x",
    b": x",
    b"x: \x00",
    b"x\x00: y",
    b"content-length: -1",
    b"content-length: 5, 6",
    b"content-length: 1\r\ncontent-length: 2",
    b"transfer-encoding: gzip",
    b"transfer-encoding: chunked\r\ncontent-length: 3",
    b"expect: 100-continue",
    b"upgrade: websocket\r\nconnection: upgrade",
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAAA",
    b"connection: close",
    b"x: " + b"y" * 70_000,
    b"\r\n".join(b"h%d: v" % number for number in range(200)),
)


@dataclass
class Plan:
    """A request as it is meant, before anything is done to it."""

    name: str
    who: str = "nobody"
    method: bytes = b"POST"
    target: bytes = b"/mcp"
    version: bytes = b"HTTP/1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    message: Any = None
    """The body before it is written as JSON; `None` if there is none."""

    body: bytes | None = None
    session_id: str = ""
    tool: str = ""
    patience_seconds: float = 0.05
    """The time for which a stream is read, once its head is there."""

    extra_head: bytes = b""


@dataclass(frozen=True)
class Input:
    """What is sent: pieces of bytes, and pauses in seconds between them."""

    name: str
    who: str
    instance: int
    pieces: tuple[bytes | float, ...]
    is_owed: bool
    """`True` if the server owes an answer to it: it is whole, as HTTP goes."""

    ends_connection: bool
    is_abandoned: bool
    """`True` if the client leaves as soon as all is sent."""

    session_id: str
    tool: str
    patience_seconds: float

    @property
    def data(self) -> bytes:
        """All its bytes."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def mutate(draw: Draw, plan: Plan) -> None:
    """Change one part of the request."""
    way = draw.below(100)
    if way < 30:
        plan.message = mutated_json(draw, plan.message)
    elif way < 38:
        plan.body = mutated_bytes(draw, dumped(draw, plan.message))
    elif way < 60:
        _mutate_header(draw, plan)
    elif way < 66:
        plan.headers.append((draw.pick(_NAMES), header_value(draw)))
    elif way < 74:
        plan.method = draw.pick(_METHODS)
    elif way < 82:
        plan.target = draw.pick(_TARGETS)
    elif way < 84:
        plan.version = draw.pick(_VERSIONS)
    elif way < 89:
        plan.extra_head = draw.pick(_HEADS_THAT_BREAK)
    else:
        plan.headers.append((draw.pick(_NAMES), text(draw).encode("utf-8", "surrogatepass")))


def _mutate_header(draw: Draw, plan: Plan) -> None:
    place, way = draw.below(len(plan.headers)), draw.below(6)
    if not plan.headers:
        return
    name, value = plan.headers[place]
    match way:
        case 0:
            del plan.headers[place]
        case 1:
            plan.headers.append((name, value))
        case 2:
            plan.headers.append((name, header_value(draw)))
        case 3:
            plan.headers[place] = name.upper(), value
        case 4:
            plan.headers[place] = name, header_value(draw)
        case _:
            changed = mutated_text(draw, value.decode("latin-1"))
            plan.headers[place] = name, changed.encode("latin-1", "replace")


def as_input(draw: Draw, plan: Plan, *, instance: int) -> Input:
    """Return the request as it is sent: with its length or in chunks, whole or in pieces, or cut off."""
    body = plan.body
    if body is None:
        body = b"" if plan.message is None else dumped(draw, plan.message)
    framed, framing, is_owed, ends = _framed(draw, body)
    lines = [b" ".join((plan.method, plan.target, plan.version))]
    lines += [name + b": " + value for name, value in plan.headers]
    lines += [each for each in (framing, plan.extra_head) if each]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    strange = (
        plan.extra_head or plan.version != b"HTTP/1.1" or any(_breaks(value) for _, value in plan.headers)
    )
    pieces, is_whole, is_repeated = _paced(draw, head, framed)
    is_abandoned = draw.chance(0.02)
    return Input(
        plan.name,
        plan.who,
        instance,
        pieces,
        is_owed=is_owed and is_whole and not strange and not is_abandoned,
        ends_connection=bool(ends or strange or is_abandoned or not is_whole or is_repeated),
        is_abandoned=is_abandoned,
        session_id=plan.session_id,
        tool=plan.tool,
        patience_seconds=plan.patience_seconds,
    )


def whole_input(plan: Plan, *, instance: int) -> Input:
    """Return the request as any client sends it."""
    body = b"" if plan.message is None else json.dumps(plan.message).encode()
    lines = [b" ".join((plan.method, plan.target, plan.version))]
    lines += [name + b": " + value for name, value in plan.headers]
    head = b"\r\n".join([*lines, b"content-length: %d" % len(body)]) + b"\r\n\r\n"
    return Input(
        plan.name,
        plan.who,
        instance,
        (head + body,),
        is_owed=True,
        ends_connection=True,
        is_abandoned=False,
        session_id=plan.session_id,
        tool=plan.tool,
        patience_seconds=plan.patience_seconds,
    )


def _breaks(value: bytes) -> bool:
    return b"\n" in value or b"\r" in value or b"\0" in value


def _framed(draw: Draw, body: bytes) -> tuple[bytes, bytes, bool, bool]:
    """Return the body on the wire, its header, and two booleans: it is whole; the connection ends with it."""
    way, place = draw.below(100), draw.below(len(body) + 1)
    length = b"content-length: %d"
    if way < 84:
        return body, length % len(body) if body else b"", True, False
    if way < 94:
        end = draw.pick((b"0\r\n\r\n", b"0;x=y\r\n\r\n", b"000\r\nx-trailer: 1\r\n\r\n"))
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:place], body[place:]) if each
        )
        return chunks + end, b"transfer-encoding: chunked", True, False
    if way < 95:
        return b"zz\r\n" + body, b"transfer-encoding: chunked", False, True
    if way < 97:
        return body, length % (len(body) + draw.pick((1, 1_000, 5_000_000, 10**30))), False, True
    if way < 98:
        return body, length % place, True, True
    return body, b"", True, True


def _paced(draw: Draw, head: bytes, body: bytes) -> tuple[tuple[bytes | float, ...], bool, bool]:
    """Return the pieces of a request, and two booleans: it is all there; it is there twice."""
    data, way = head + body, draw.below(100)
    if way < _REPEATED:
        return (data + data,), True, True
    pieces = _pieces(draw, head, body)
    return pieces, sum(len(each) for each in pieces if isinstance(each, bytes)) == len(data), False


def _pieces(draw: Draw, head: bytes, body: bytes) -> tuple[bytes | float, ...]:  # noqa: PLR0911 - one for each way
    data, way = head + body, draw.below(100)
    first, second = sorted((draw.below(len(data)), draw.below(len(data))))
    pause = draw.between(0.0, 0.03)
    if way < 80:
        return (data,)
    if way < 88:
        return (head, pause, body)
    if way < 93:
        return (data[:first], pause, data[first:second], pause, data[second:])
    if way < 95:
        start = tuple[bytes | float, ...](data[place : place + 1] for place in range(40))
        return (*start, data[40:])
    if way < 96:
        return (data[:first], 0.3, data[first:])
    if way < 97:
        parts = [
            data[place : place + len(data) // 8 + 1] for place in range(0, len(data), len(data) // 8 + 1)
        ]
        return tuple[bytes | float, ...](each for part in parts for each in (part, 0.2))
    return (data[:first],)
