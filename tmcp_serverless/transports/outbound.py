"""What a handler says that belongs to no request: it goes to the session's mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tmcp_serverless.transports.jsonrpc import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.sessions.contracts import StreamSessionManager
    from tmcp_serverless.sessions.records import Json

__all__ = ["LogFilter", "SessionOutbound"]

_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424 severities as MCP names them, least severe first."""


class LogFilter:
    """Which log messages the session wants: those at the level that it set, and above."""

    def __init__(self, level: str | None) -> None:
        self._unwanted = frozenset(_LEVELS[: _LEVELS.index(level)]) if level in _LEVELS else frozenset()

    def passes(self, method: str, params: Mapping[str, Any] | None) -> bool:
        """Return whether the notification goes out. Everything that is not a log message does."""
        return not (
            self._unwanted
            and method == "notifications/message"
            and params is not None
            and params.get("level") in self._unwanted
        )


class SessionOutbound:
    """The SDK's `Outbound` of a session's standalone stream, wherever that is open.

    A notification is committed when `notify` returns, and reaches the stream that is open or the next one.
    """

    def __init__(self, streams: StreamSessionManager, session_id: str, log_filter: LogFilter) -> None:
        self._streams = streams
        self._session_id = session_id
        self._log_filter = log_filter

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        """Append the notification to the session's mailbox."""
        del opts
        if self._log_filter.passes(method, params):
            message: Json = {"jsonrpc": "2.0", "method": method}
            if params is not None:
                message["params"] = dict(params)
            await self._streams.send([self._session_id], dump(message).decode())

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        """Ask the client."""
        del params, opts
        from mcp.shared.exceptions import NoBackChannelError  # noqa: PLC0415 - only where mcp is imported

        raise NoBackChannelError(method)
