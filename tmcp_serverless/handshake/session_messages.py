"""Messages of a handler that belong to no request: they go to the session's mailbox."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tmcp_serverless.http import dump, notification

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.handshake.running_request import RunningRequest
    from tmcp_serverless.sessions import Json, StreamSessionManager

__all__ = ["SessionMessages", "is_below_level"]

logger = logging.getLogger(__name__)

_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""RFC 5424 severities as MCP names them, least severe first."""

_BELOW = {level: frozenset(_LEVELS[:position]) for position, level in enumerate(_LEVELS)}


def is_below_level(message: Json, level: str) -> bool:
    """Return `True` if the message is a log message that a session with this level does not want."""
    if message.get("method") != "notifications/message":
        return False
    return (message.get("params") or {}).get("level") in _BELOW.get(level, ())


@dataclass(slots=True)
class SessionMessages:
    """SDK `Outbound` of a session's standalone stream, on any instance that has it open.

    A notification is committed when `notify` returns, and reaches the open stream or the next one. A server
    request goes there too. If no stream is open, it goes to the running request's own stream rather than
    nowhere. The messages of one process arrive in the order of the calls, also those of tasks that run side
    by side.
    """

    request: RunningRequest
    """The request or notification whose handler sends the messages."""

    streams: StreamSessionManager
    """The stream manager with the session's mailbox."""

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        """Append the notification to the session's mailbox."""
        del opts
        message = notification(method, params)
        if self.request.wants(message):
            with self.streams.send_order.take(self.request.session.id) as turn:
                await turn.come()
                await self._send(message)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a request to the client, on its standalone stream if it has one open."""
        id, request = self.request.session.id, self.request
        # Its turn is taken before the first `await`: a later message does not overtake it.
        with self.streams.send_order.reserved(id, send=self._send) as send:
            if not request.has_own_stream or await self.streams.has(id):
                return await request.send_server_request(method, params, opts, send)
        return await request.send_server_request(method, params, opts, request.emit)

    async def _send(self, message: Json) -> None:
        session, data = self.request.session, dump(message).decode()
        if session.is_http_sse:
            # `send` would create the mailbox of a session again that has ended with its stream.
            if await self.streams.append(session.id, data, create=False) is None:
                logger.debug("dropped a message: its session is gone")
        else:
            await self.streams.send([session.id], data)
