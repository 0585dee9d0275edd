"""Stream to one client of the modern era, in the form that the SDK's entry is given."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.http import INTERNAL_ERROR, STOPPED, ClientStream, dump, error_answer, refusal_of, sse

if TYPE_CHECKING:
    from tmcp_serverless.errors import TmcpError
    from tmcp_serverless.http import HttpProblem, Message, Scope, Send

__all__ = ["ClientGoneError", "ModernClientStream"]

logger = logging.getLogger(__name__)

_EXTENSION = "tmcp_serverless.modern_client_stream"
"""Key in the ASGI scope's `extensions` for the stream that handlers find."""


_JSON = (b"content-type", b"application/json")


class ClientGoneError(Exception):
    """Raised when the client is not there any more, or does not read."""


class ModernClientStream(ClientStream):
    """ClientStream that can send a status that the SDK's entry does not know.

    If the session managers cannot serve a request, its response is 503 with `Retry-After`, unless it has
    begun to stream.

    Args:
        send: The ASGI `send` of the request.

    """

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        self._problem: HttpProblem | None = None
        self._begun = False
        self._ended = False

    @classmethod
    def of(cls, scope: Scope) -> ModernClientStream | None:
        """Return the stream of a request; `None` if it has none."""
        return (scope.get("extensions") or {}).get(_EXTENSION)

    def within(self, scope: Scope) -> Scope:
        """Return the scope with this as the request's stream."""
        return {**scope, "extensions": {**(scope.get("extensions") or {}), _EXTENSION: self}}

    def refuse(self, error: TmcpError) -> str:
        """Answer 503 to the request, which ended with this error, and return the message for the client."""
        self._problem = refusal_of(error)
        level = logging.ERROR if isinstance(error, ConfigurationError) else logging.WARNING
        logger.log(level, "%s: %s", "a request failed" if self._begun else "answered 503", error)
        return str(self._problem)

    async def abandon(self, body: bytes | None) -> None:
        """Answer the unfinished request in this body: its host is stopping."""
        request = _request_in(body)
        if request is None or self._ended:
            return
        self.hurry()
        answer = dump(error_answer(request, INTERNAL_ERROR, STOPPED))
        if self._begun:
            await self.end(sse.event(answer))
            return
        await self.start(503, [_JSON, (b"retry-after", b"1")])
        await self.end(answer)

    async def send(self, message: Message) -> None:
        """Send a piece of the response.

        Raises:
            ClientGoneError: It goes nowhere. The work for the client is to be ended.

        """
        if message["type"] == "http.response.start":
            self._begun = True
            if self._problem is not None and _JSON in message["headers"]:
                headers = [*message["headers"], *self._problem.headers]
                message = {**message, "status": self._problem.status, "headers": headers}
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._put(dict(message))
        if self.gone:
            raise ClientGoneError


def _request_in(body: bytes | None) -> dict[str, Any] | None:
    try:
        message = json.loads(body or b"")
    except ValueError:
        return None
    return message if isinstance(message, dict) and "id" in message else None
