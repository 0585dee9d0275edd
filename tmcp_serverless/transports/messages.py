"""Running the messages of one POST through the SDK's kernel, for a session that has been loaded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS
from tmcp_serverless.transports.exchange import Exchange
from tmcp_serverless.transports.outbound import LogFilter, SessionOutbound

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.sessions.records import Json, SessionRecord
    from tmcp_serverless.transports.asgi import Headers, Scope, Send
    from tmcp_serverless.transports.runtime import ServerRuntime

__all__ = ["LoadedSession", "MessageRunner"]

_RECORDED = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
_LONGEST_URI_BYTES = 2_000
"""What an index entry of Postgres holds, with room to spare."""


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """A session as this request found it."""

    id: str
    record: SessionRecord

    @property
    def headers(self) -> Headers:
        """The headers that every answer of the session carries."""
        return [(b"mcp-session-id", self.id.encode())]


class MessageRunner:
    """Runs requests and notifications.

    Args:
        runtime: The server.
        managers: Where sessions are.
        apply_log_level: Whether log messages below the session's level are kept back.
        defer_seconds: How long a request may run before its answer becomes a stream.

    """

    def __init__(
        self,
        runtime: ServerRuntime,
        managers: SessionManagers,
        *,
        apply_log_level: bool = True,
        defer_seconds: float = 5.0,
    ) -> None:
        self._runtime = runtime
        self._managers = managers
        self._apply_log_level = apply_log_level
        self._defer_seconds = defer_seconds

    async def answer(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> None:
        """Run a request and answer the POST with it."""
        async with self._exchange(send, session, batch=False) as exchange:
            await exchange.answer(await self._run(scope, exchange, session, message))

    async def answer_batch(
        self, scope: Scope, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Run the requests of a batch side by side, and answer the POST with all of them."""

        async def run(message: Json) -> None:
            await exchange.answer(await self._run(scope, exchange, session, message))

        async with self._exchange(send, session, batch=True) as exchange, asyncio.TaskGroup() as group:
            for message in messages:
                group.create_task(run(message))

    async def notify(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a notification's handler. What it says goes to the session's standalone stream."""
        from tmcp_serverless import sdk  # noqa: PLC0415 - a GET, a DELETE and an answer do without mcp

        outbound = self._outbound(session)

        async def emit(emitted: Json) -> None:
            await outbound.notify(emitted["method"], emitted.get("params"))

        call = sdk.Call(scope, None, None, emit)
        connection = sdk.restore_connection(session.id, session.record, outbound)
        state = await self._runtime.lifespan_state()
        await self._runtime.kernel.notify(call, message, connection, state)

    def _exchange(self, send: Send, session: LoadedSession, *, batch: bool) -> Exchange:
        return Exchange(send, headers=session.headers, batch=batch, defer_seconds=self._defer_seconds)

    def _log_filter(self, session: LoadedSession) -> LogFilter:
        return LogFilter(session.record.log_level if self._apply_log_level else None)

    def _outbound(self, session: LoadedSession) -> SessionOutbound:
        return SessionOutbound(self._managers.streams, session.id, self._log_filter(session))

    async def _run(self, scope: Scope, exchange: Exchange, session: LoadedSession, message: Json) -> Json:
        from tmcp_serverless import sdk  # noqa: PLC0415 - a GET, a DELETE and an answer do without mcp

        log_filter = self._log_filter(session)

        async def emit(emitted: Json) -> None:
            if log_filter.passes(emitted["method"], emitted.get("params")):
                await exchange.emit(emitted)

        call = sdk.Call(scope, message["id"], message.get("params"), emit)
        outbound = SessionOutbound(self._managers.streams, session.id, log_filter)
        connection = sdk.restore_connection(session.id, session.record, outbound)
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state)
        if succeeded and message["method"] in _RECORDED:
            return await self._record(session.id, message) or answer
        return answer

    async def _record(self, id: str, message: Json) -> Json | None:
        """Store what the request changed about the session, before it is answered; or say why that failed."""
        info, params = self._managers.info, message["params"]
        try:
            if message["method"] == "logging/setLevel":
                await info.set_log_level(id, params["level"])
                return None
            uri: str = params["uri"]
            if len(uri.encode()) > _LONGEST_URI_BYTES:
                return _error(message, INVALID_PARAMS, f"uri is longer than {_LONGEST_URI_BYTES} bytes")
            if message["method"] == "resources/subscribe":
                await info.add_subscription(id, uri)
            else:
                await info.remove_subscription(id, uri)
        except StoreUnavailableError:
            return _error(message, INTERNAL_ERROR, "The session store cannot be reached; try again")
        return None


def _error(message: Json, code: int, text: str) -> Json:
    return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}
