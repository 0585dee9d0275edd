"""Asking the client: elicitation, sampling, roots, ping, from a running request.

Imports `mcp`; only what runs a handler imports this module.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

from tmcp_serverless.transports.addresses import new_question_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.inbox import Inbox

__all__ = ["Questions"]

logger = logging.getLogger(__name__)

_LAST_WORD_SECONDS = 5.0


class Questions:
    """What one running message asks the client.

    Args:
        inbox: Where the answers arrive.
        name: The request's name; it is the first part of every question's id.
        allowed: Whether the client can be asked at all while this message is handled.

    """

    def __init__(self, inbox: Inbox, name: str, *, allowed: bool) -> None:
        self._inbox = inbox
        self._name = name
        self.allowed = allowed

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: Mapping[str, Any] | None,
        deliver: Callable[[Json], Awaitable[None]],
    ) -> Json:
        """Send a request to the client and return its result.

        `deliver` puts a message where the client sees it. When nobody waits for the answer any more, because
        of a timeout or a cancellation, the client is told so on the same way.

        Raises:
            NoBackChannelError: The client cannot be asked.
            MCPError: It answered with an error, or not in time, or its session is gone.

        """
        if not self.allowed:
            raise NoBackChannelError(method)
        await self._inbox.open()
        options = opts or {}
        id = new_question_id(self._name)
        answer = self._inbox.expect(id, options.get("on_progress"))
        try:
            await deliver(_request(id, method, params, wants_progress="on_progress" in options))
            async with asyncio.timeout(options.get("timeout")):
                message = await answer
        except TimeoutError:
            await self._withdraw(id, f"timed out after {options.get('timeout')}s", deliver)
            raise MCPError(code=REQUEST_TIMEOUT, message=f"Request {method!r} timed out") from None
        except ConnectionError as error:
            raise MCPError(code=CONNECTION_CLOSED, message=f"Connection closed: {error}") from error
        except asyncio.CancelledError:
            await asyncio.shield(self._withdraw(id, "caller cancelled", deliver))
            raise
        finally:
            self._inbox.forget(id)
        if "error" in message:
            error = message["error"]
            raise MCPError(code=error["code"], message=error["message"], data=error.get("data"))
        return message["result"]

    async def _withdraw(self, id: str, reason: str, deliver: Callable[[Json], Awaitable[None]]) -> None:
        params = {"requestId": id, "reason": reason}
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await deliver({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        except Exception as error:  # noqa: BLE001 - a courtesy; what is being raised matters more
            logger.debug("could not tell the client that %s is cancelled: %r", id, error)


def _request(id: str, method: str, params: Mapping[str, Any] | None, *, wants_progress: bool) -> Json:
    message: Json = {"jsonrpc": "2.0", "id": id, "method": method}
    sent = dict(params) if params is not None else {}
    if wants_progress:
        sent["_meta"] = {**(sent.get("_meta") or {}), "progressToken": id}
    if sent:
        message["params"] = sent
    return message
