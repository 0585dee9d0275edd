"""ClientStream to one client of the modern era, in the form that the SDK's entry is given."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.transports import sse
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, STOPPED, refusal_of
from tmcp_serverless.transports.client_stream import ClientStream
from tmcp_serverless.transports.jsonrpc import dump, error_answer

if TYPE_CHECKING:
    from tmcp_serverless.errors import TmcpError
    from tmcp_serverless.transports.asgi import HttpProblem, Message, Scope, Send

__all__ = ["ClientGoneError", "ModernClientStream"]

logger = logging.getLogger(__name__)

_EXTENSION = "tmcp_serverless.modern_client_stream"
"""Key in the ASGI scope's `extensions` for the outlet that handlers find."""


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
        self._head: Message | None = None

    @classmethod
    def of(cls, scope: Scope) -> ModernClientStream | None:
        """Return the outlet of a request; `None` if it has none."""
        return (scope.get("extensions") or {}).get(_EXTENSION)

    def within(self, scope: Scope) -> Scope:
        """Return the scope with this as the request's outlet."""
        return {**scope, "extensions": {**(scope.get("extensions") or {}), _EXTENSION: self}}

    def refuse(self, error: TmcpError) -> str:
        """Answer 503, if the request ends with this error, and return the message for the client."""
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
        if self._begun and self._head is None:
            await self.end(sse.event(answer))
            return
        await self.start(503, [(b"content-type", b"application/json"), (b"retry-after", b"1")])
        await self.end(answer)

    async def send(self, message: Message) -> None:
        """Send a piece of the response.

        Raises:
            ClientGoneError: It goes nowhere. The work for the client is to be ended.

        """
        if message["type"] == "http.response.start":
            self._begun = True
            if self._problem is not None:
                self._head = message  # A handler may have gone on all the same: the body will say.
                return
        elif self._head is not None:
            head, self._head = self._head, None
            await self._pass_on(self._refused(head, self._problem, message.get("body", b"")))
        await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        self._ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._put(dict(message))
        if self.gone:
            raise ClientGoneError

    @staticmethod
    def _refused(head: Message, problem: HttpProblem | None, body: bytes) -> Message:
        """Return the response's head, with the problem's status if the body has the problem's message."""
        if problem is None or _message_of(body) != str(problem):
            return head
        return {**head, "status": problem.status, "headers": [*head["headers"], *problem.headers]}


def _request_in(body: bytes | None) -> dict[str, Any] | None:
    try:
        message = json.loads(body or b"")
    except ValueError:
        return None
    return message if isinstance(message, dict) and "id" in message else None


def _message_of(body: bytes) -> str | None:
    """Return the message of a JSON-RPC error; `None` if the body is none, or a piece of a stream."""
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError):
        return None
