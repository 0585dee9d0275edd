"""Options of the HTTP transports."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HttpOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of `HttpTransport` and `SseTransport`, explained in `Settings`."""

    disable_sse: bool = False
    answer_session_methods: bool = True
    max_body_bytes: int = 4 * 1024 * 1024
    defer_seconds: float = 5.0
    stream_max_seconds: float | None = None
    buffered_wait_seconds: float = 20.0
    replay: bool = True
    retry_milliseconds: int = 1_000
