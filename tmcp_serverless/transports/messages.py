"""Running the messages of one POST through the SDK's kernel, for a session that has been loaded.

Imports `mcp`: a GET, a DELETE and an answer do without this module.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless import sdk
from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.sessions.records import SessionRecord
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS
from tmcp_serverless.transports.conversation import Conversation
from tmcp_serverless.transports.exchange import Exchange
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.jsonrpc import dump
from tmcp_serverless.transports.lasting import Attendance, close
from tmcp_serverless.transports.outbound import LogFilter, SessionOutbound
from tmcp_serverless.transports.versions import RESUMABLE_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.asgi import Scope, Send
    from tmcp_serverless.transports.host import Host
    from tmcp_serverless.transports.loaded import LoadedSession
    from tmcp_serverless.transports.options import HttpOptions
    from tmcp_serverless.transports.runtime import ServerRuntime

__all__ = ["MessageRunner"]

logger = logging.getLogger(__name__)

_RECORDED = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
_LONGEST_URI_BYTES = 2_000
"""What an index entry of Postgres holds, with room to spare."""


_STOPPED = "The instance that ran this request was stopped; call again"


class MessageRunner:
    """Runs requests and notifications of handshake-era sessions."""

    def __init__(self, runtime: ServerRuntime, managers: SessionManagers, options: HttpOptions) -> None:
        self._runtime = runtime
        self._managers = managers
        self._options = options
        self._open: set[Exchange] = set()

    async def drain(self) -> None:
        """End the connections whose streams can be continued elsewhere."""
        for exchange in list(self._open):
            await exchange.close_connection(unless_waiting=True)

    async def answer(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> None:
        """Run a request and answer the POST with it."""
        host = host_of(scope)
        conversation = self._conversation(session, message["id"], can_ask=host.streams)
        new_journal = None
        if self._options.replay and host.streams and session.record.protocol_version >= RESUMABLE_VERSION:
            new_journal = partial(conversation.journal, retry_milliseconds=self._options.retry_milliseconds)
        exchange = Exchange(send, headers=session.headers, batch=False, new_journal=new_journal)
        self._open.add(exchange)
        try:
            async with self._attendance(host, session, exchange, [conversation]):
                await exchange.answer(await self._run(scope, session, message, exchange, conversation))
                await exchange.finish()
        except asyncio.CancelledError:
            # The host is stopping: whoever resumes the stream is told, rather than kept waiting.
            await asyncio.shield(exchange.abandon(dump(_error(message, INTERNAL_ERROR, _STOPPED))))
            raise
        finally:
            self._open.discard(exchange)

    async def answer_batch(
        self, scope: Scope, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Run the requests of a batch side by side, and answer the POST with all of them."""
        host = host_of(scope)
        exchange = Exchange(send, headers=session.headers, batch=True, new_journal=None)
        pairs = [
            (message, self._conversation(session, message["id"], can_ask=host.streams))
            for message in messages
        ]

        async def run(message: Json, conversation: Conversation) -> None:
            await exchange.answer(await self._run(scope, session, message, exchange, conversation))

        async with self._attendance(host, session, exchange, [conversation for _, conversation in pairs]):
            async with asyncio.TaskGroup() as group:
                for message, conversation in pairs:
                    group.create_task(run(message, conversation))
            await exchange.finish()

    async def notify(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a notification's handler. What it says goes to the session's standalone stream."""
        streams = self._managers.streams
        # Without a POST's stream it can ask only where a standalone one is open.
        can_ask = host_of(scope).streams and await streams.has(session.id)
        conversation = self._conversation(session, None, can_ask=can_ask)
        outbound = SessionOutbound(streams, session.id, self._log_filter(session), conversation=conversation)

        async def emit(emitted: Json) -> None:
            await outbound.notify(emitted["method"], emitted.get("params"))

        call = sdk.Call(scope, None, None, emit=emit)
        connection = sdk.restore_connection(session.id, session.record, outbound, can_ask=can_ask)
        state = await self._runtime.lifespan_state()
        try:
            await self._runtime.kernel.notify(call, message, connection, state)
        finally:
            await close(conversation)

    async def initialize(
        self, scope: Scope, id: str, message: Json, principal: str
    ) -> tuple[Json, SessionRecord | None]:
        """Run `initialize`, and return its answer and the session that it makes."""
        streams = self._managers.streams
        conversation = Conversation(streams, id, None, can_ask=False)
        outbound = SessionOutbound(streams, id, LogFilter.at(None), conversation=conversation)
        connection = sdk.new_connection(id, outbound)
        call = sdk.Call(scope, message["id"], message.get("params"), emit=_nowhere)
        state = await self._runtime.lifespan_state()
        pushes = not self._options.disable_sse and (
            host_of(scope).streams or self._options.buffered_wait_seconds > 0
        )
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state, pushes=pushes)
        if not succeeded:
            return answer, None
        params = message["params"]
        record = SessionRecord(
            connection.protocol_version, params["clientInfo"], params["capabilities"], principal
        )
        return answer, record

    def _conversation(
        self, session: LoadedSession, request_id: str | int | None, *, can_ask: bool
    ) -> Conversation:
        return Conversation(self._managers.streams, session.id, request_id, can_ask=can_ask)

    def _attendance(
        self, host: Host, session: LoadedSession, exchange: Exchange, conversations: list[Conversation]
    ) -> Attendance:
        async def session_is_there() -> bool:
            record = await self._managers.info.load(session.id, principal=session.record.principal)
            return record is not None

        return Attendance(exchange, conversations, host, self._options, session_is_there=session_is_there)

    def _interrupter(self, session_id: str) -> Callable[[], Awaitable[None]]:
        async def interrupt() -> None:
            await self._managers.streams.interrupt(session_id)

        return interrupt

    async def _run(
        self,
        scope: Scope,
        session: LoadedSession,
        message: Json,
        exchange: Exchange,
        conversation: Conversation,
    ) -> bytes:
        """Run a request and return its answer as JSON."""
        log_filter = self._log_filter(session)

        async def emit(emitted: Json) -> None:
            if log_filter.passes(emitted):
                await exchange.emit(emitted)

        call = sdk.Call(
            scope,
            message["id"],
            message.get("params"),
            emit=emit,
            conversation=conversation,
            close_stream=exchange.close_connection if exchange.can_close else None,
            close_standalone_stream=self._interrupter(session.id) if exchange.can_close else None,
        )
        conversation.on_cancelled = call.cancel
        outbound = SessionOutbound(
            self._managers.streams, session.id, log_filter, conversation=conversation, fallback=emit
        )
        connection = sdk.restore_connection(
            session.id, session.record, outbound, can_ask=conversation.can_ask
        )
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state)
        if succeeded and message["method"] in _RECORDED:
            answer = await self._record(session.id, message) or answer
        try:
            return dump(answer)
        except ValueError as error:
            logger.error("the answer to %r cannot be written as JSON: %s", message["method"], error)  # noqa: TRY400
            return dump(_error(message, INTERNAL_ERROR, "The result cannot be written as JSON"))

    def _log_filter(self, session: LoadedSession) -> LogFilter:
        return LogFilter.at(session.record.log_level if self._options.answer_session_methods else None)

    async def _record(self, id: str, message: Json) -> Json | None:
        """Store what the request changed about the session, before it is answered; or say why that failed."""
        info, params = self._managers.info, message["params"]
        try:
            if message["method"] == "logging/setLevel":
                await info.set_log_level(id, params["level"])
                return None
            uri: str = params["uri"]
            if "\0" in uri or len(uri.encode()) > _LONGEST_URI_BYTES:
                text = f"uri has a NUL character or is longer than {_LONGEST_URI_BYTES} bytes"
                return _error(message, INVALID_PARAMS, text)
            if message["method"] == "resources/subscribe":
                await info.add_subscription(id, uri)
            else:
                await info.remove_subscription(id, uri)
        except StoreUnavailableError:
            return _error(message, INTERNAL_ERROR, "The session store cannot be reached; try again")
        return None


async def _nowhere(message: Json) -> None:
    logger.debug("dropped %s: a session that is being initialized has no stream yet", message["method"])


def _error(message: Json, code: int, text: str) -> Json:
    return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}
