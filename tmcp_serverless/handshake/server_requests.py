"""Server requests of a running request, from their sending to the client's replies.

Imports `mcp` when one is sent; only code that runs a handler sends one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.exits import is_end_of
from tmcp_serverless.handshake.addresses import new_question_id
from tmcp_serverless.tracebacks import log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tmcp_serverless.sessions import Json

__all__ = ["ServerRequests"]

logger = logging.getLogger(__name__)

_LAST_WORD_SECONDS = 5.0
"""Seconds that it may take to tell the client that a server request is withdrawn."""


class ServerRequests:
    """Server requests that wait for their replies.

    Args:
        name: The running request's name. The ids of server requests begin with it, so that the instance that
            a reply is posted to finds the inbox that it goes to.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: dict[str, asyncio.Future[Json]] = {}
        self._on_progress: dict[str, Any] = {}
        self._ended: str | None = None

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: Mapping[str, Any] | None,
        send: Callable[[Json], Awaitable[None]],
    ) -> Json:
        """Send a request to the client and return its result.

        `send` puts a message on a stream that the client sees. If the caller stops waiting for the reply,
        because of a timeout or a cancellation, the client is told so in the same way.

        Raises:
            MCPError: The client replied with an error, or not in time, or its session is gone.

        """
        from mcp.shared.exceptions import MCPError  # see the module's text
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT  # the same

        options = opts or {}
        id = new_question_id(self._name)
        try:
            reply = self._expect(id, options.get("on_progress"))
            await send(_request(id, method, params, wants_progress="on_progress" in options))
            async with asyncio.timeout(options.get("timeout")):
                message = await reply
        except TimeoutError:
            await _withdraw(id, f"timed out after {options.get('timeout')}s", send)
            raise MCPError(code=REQUEST_TIMEOUT, message=f"Request {method!r} timed out") from None
        except ConnectionError as error:
            raise MCPError(code=CONNECTION_CLOSED, message=f"Connection closed: {error}") from error
        except asyncio.CancelledError:
            await asyncio.shield(_withdraw(id, "caller cancelled", send))
            raise
        finally:
            self._forget(id)
        if "error" in message:
            error = message["error"]
            raise MCPError(code=error["code"], message=error["message"], data=error.get("data"))
        return message["result"]

    async def hear(self, message: Json) -> None:
        """Take a reply, or the progress of a server request."""
        if message.get("method") == "notifications/progress":
            await self._hear_progress(message.get("params") or {})
            return
        future = self._waiting.get(message.get("id", ""))
        if future is None or future.done():
            logger.debug("dropped a reply that nothing waits for: %r", message.get("id"))
        else:
            future.set_result(message)

    def end(self, reason: str) -> None:
        """Give up the replies, for nothing is heard any more."""
        self._ended = reason
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(reason))

    def _expect(self, id: str, on_progress: Any) -> asyncio.Future[Json]:
        """Return the future reply, a JSON-RPC response, to a server request that is about to be sent.

        Raises:
            ConnectionError: No reply will be heard.

        """
        if self._ended is not None:
            raise ConnectionError(self._ended)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[id] = future
        if on_progress is not None:
            self._on_progress[id] = on_progress
        return future

    def _forget(self, id: str) -> None:
        """Stop waiting for this reply. If it comes late, it is dropped."""
        future = self._waiting.pop(id, None)
        if future is not None and not future.cancel() and not future.cancelled():
            future.exception()  # The caller has another reason to give up; this one is not news.
        self._on_progress.pop(id, None)

    async def _hear_progress(self, params: Json) -> None:
        on_progress = self._on_progress.get(params.get("progressToken", ""))
        progress, total, text = (
            _number(params.get("progress")),
            _number(params.get("total")),
            params.get("message"),
        )
        if on_progress is None or progress is None:
            return
        task = asyncio.current_task()
        try:
            await on_progress(progress, total, text if isinstance(text, str) else None)
        except BaseException as error:
            if is_end_of(task, error):
                raise
            log_failure(logger, "a progress callback raised", error=error)


async def _withdraw(id: str, reason: str, send: Callable[[Json], Awaitable[None]]) -> None:
    params = {"requestId": id, "reason": reason}
    try:
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
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


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
