"""Server-sent events: frames as bytes (WHATWG HTML, section 9.2)."""

from __future__ import annotations

__all__ = ["KEEP_ALIVE", "SSE_HEADERS", "endpoint", "event", "priming", "retry"]

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: it carries nothing and keeps intermediaries from closing an idle stream."""

SSE_HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


def event(data: bytes, *, id: str | None = None) -> bytes:
    """Return a `message` event. The data may span lines; the client puts them together again."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.splitlines())
    if id is None:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"event: message\nid: " + id.encode("ascii") + b"\ndata: " + data + b"\n\n"


def endpoint(uri: str) -> bytes:
    """Return the event that begins a stream of HTTP+SSE: where to post (2024-11-05)."""
    return f"event: endpoint\ndata: {uri}\n\n".encode("ascii")


def priming(id: str, *, retry_milliseconds: int) -> bytes:
    """Return the event that begins a resumable stream: an id to resume from, and no data."""
    return f"id: {id}\nretry: {retry_milliseconds}\ndata: \n\n".encode("ascii")


def retry(milliseconds: int) -> bytes:
    """Return the hint how long a client should wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()
