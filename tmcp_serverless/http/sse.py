"""Server-sent events: frames as bytes (WHATWG HTML, section 9.2).

Frames have the form that every deployed parser takes: fields in lower case with one space, `event: message`
with each message, no event type without a message, no line separators of Unicode, and no empty line that ends
nothing. `retry` is the only field that some clients fail on; see `retry`.
"""

from __future__ import annotations

__all__ = ["KEEP_ALIVE", "KEEP_ALIVE_SECONDS", "SSE_HEADERS", "endpoint", "event", "priming", "retry"]

KEEP_ALIVE = b": keep-alive\n"
"""Comment that carries nothing and keeps intermediaries from closing an idle stream.

No empty line follows. After an id, httpx-sse takes that line for another event without data. The Java SDK's
client stops reading after 256 of them, because only lines with content renew its demand.
"""

KEEP_ALIVE_SECONDS = 15.0
"""Interval at which an open stream says something, so that no intermediary takes it for dead."""

_LINE_SEPARATORS = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
"""Characters that end a line for Python's `str.splitlines` and Java's `$`, and that JSON does not escape."""

SSE_HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


def event(data: bytes, *, id: str | None = None) -> bytes:
    """Return a `message` event. The data may span lines; the client puts them together again.

    The line separators of Unicode are escaped, as JSON allows: several parsers end a line at them.
    """
    if not data.isascii():
        for raw, escaped in _LINE_SEPARATORS:
            data = data.replace(raw, escaped)
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    if id is None:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"event: message\nid: " + id.encode("ascii") + b"\ndata: " + data + b"\n\n"


def endpoint(uri: str) -> bytes:
    """Return the event that begins a stream of HTTP+SSE: the address to post to (2024-11-05)."""
    return f"event: endpoint\ndata: {uri}\n\n".encode("ascii")


def priming(id: str) -> bytes:
    """Return the event that begins a resumable stream: an id to resume from, and no data."""
    return f"id: {id}\ndata: \n\n".encode("ascii")


def retry(milliseconds: int) -> bytes:
    """Return the hint for the time that a client should wait before it connects again; nothing for 0.

    It is the last frame of a connection that ends before its stream, and goes nowhere else. The Java SDK's
    client fails on the line, and then has everything that came before it.
    """
    return f"retry: {milliseconds}\n\n".encode() if milliseconds else b""
