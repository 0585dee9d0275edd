"""Messages of a handler that belong to no request: they go to the session's mailbox."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from tmcp_serverless.transports.jsonrpc import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.sessions.streams import StreamSessionManager
    from tmcp_serverless.transports.conversation import Conversation

__all__ = ["LogFilter", "SessionOutbound"]

logger = logging.getLogger(__name__)

_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424 severities as MCP names them, least severe first."""


class LogFilter:
    """Filter for the log messages that the session wants: those at the level that it set, and above."""

    def __init__(self, level: str | None) -> None:
        self._unwanted = frozenset(_LEVELS[: _LEVELS.index(level)]) if level in _LEVELS else frozenset()

    @classmethod
    @lru_cache(maxsize=16)
    def at(cls, level: str | None) -> Self:
        """Return the filter for a level."""
        return cls(level)

    def passes(self, message: Json) -> bool:
        """Return `True` if the message goes out. Everything that is not a log message does."""
        return not (
            self._unwanted
            and message.get("method") == "notifications/message"
            and (message.get("params") or {}).get("level") in self._unwanted
        )


class SessionOutbound:
    """SDK `Outbound` of a session's standalone stream, on any instance that has it open.

    A notification is committed when `notify` returns, and reaches the open stream or the next one. A server
    request goes there too. If no stream is open, it goes to the running request's own stream rather than
    nowhere. The messages of one process arrive in the order of the calls, also those of tasks that run side
    by side.

    Args:
        streams: The stream manager with the session's mailbox.
        session_id: The session.
        log_filter: The filter for log messages.
        is_stream: `True` if the session ends with its stream: HTTP+SSE.
        conversation: The conversation that asks the client.
        fallback: Sends a message on the running request's own stream; `None` if there is none.

    """

    def __init__(
        self,
        streams: StreamSessionManager,
        session_id: str,
        log_filter: LogFilter,
        *,
        is_stream: bool,
        conversation: Conversation,
        fallback: Callable[[Json], Awaitable[None]] | None = None,
    ) -> None:
        self._streams = streams
        self._session_id = session_id
        self._log_filter = log_filter
        self._is_stream = is_stream
        self._conversation = conversation
        self._fallback = fallback

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        """Append the notification to the session's mailbox."""
        del opts
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = dict(params)
        if self._log_filter.passes(message):
            with self._streams.send_order.take(self._session_id) as turn:
                await turn.come()
                await self._send(message)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a request to the client, on its standalone stream if it has one open."""
        # Its turn is taken before the first `await`: a later message does not overtake it.
        with self._streams.send_order.reserved(self._session_id, send=self._send) as deliver:
            if self._fallback is None or await self._streams.has(self._session_id):
                return await self._conversation.ask(method, params, opts, deliver)
        return await self._conversation.ask(method, params, opts, self._fallback)

    async def _send(self, message: Json) -> None:
        data = dump(message).decode()
        if self._is_stream:
            # `send` would create the mailbox of a session again that has ended with its stream.
            if await self._streams.append(self._session_id, data, create=False) is None:
                logger.debug("dropped a message: its session is gone")
        else:
            await self._streams.send([self._session_id], data)
