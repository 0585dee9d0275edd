"""The settings as keyword arguments, for type checkers and editors: written by `make docs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SettingsOverrides"]

_Names: TypeAlias = "str | Sequence[str]"
"""Several, or one text with commas in between."""


class SettingsOverrides(TypedDict, total=False):
    """Any of the fields of `tmcp_serverless.Settings`, which documents each of them."""

    database_url: str | None
    listen_url: str | None
    database_secret: str | None
    database_parameter: str | None
    database_iam: bool
    database_name: str | None
    database_tls_ca: str | None
    database_idle_seconds: float
    keep_connections: bool
    doorbell: Literal["auto", "listen", "poll"]
    database_connections: int
    namespace: str | None
    schema: str | None
    create_tables: bool
    synchronous_commit: str | None
    session_idle_seconds: float
    path: str
    health_path: str
    ready_path: str
    disable_sse: bool
    sse_path: str
    message_path: str
    disable_legacy_sse: bool
    answer_session_methods: bool
    request_state_keys: _Names
    single_use: bool
    replayable: _Names
    cache_ttl_ms: int
    cache_scope: Literal["public", "private"]
    max_body_bytes: int
    max_body_values: int
    max_batch: int
    max_subscriptions: int
    max_sessions: int
    max_inbox_bytes: int
    max_connections: int | None
    max_bytes_in_flight: int
    client_seconds: float
    defer_seconds: float
    stream_max_seconds: float | None
    function_streams: int | None
    buffered_wait_seconds: float
    replay: bool
    retry_milliseconds: int
    allowed_hosts: _Names
    allowed_origins: _Names
    metrics: bool
    metrics_namespace: str
    log_format: Literal["auto", "json", "plain"]
