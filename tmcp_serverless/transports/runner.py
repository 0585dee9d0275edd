"""Runner of the messages of one POST through the SDK's kernel, for a session that has been loaded.

Imports `mcp`: a GET, a DELETE and an answer do without this module.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless import sdk
from tmcp_serverless.sessions.addresses import is_stream_session_id
from tmcp_serverless.sessions.records import SessionRecord
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from tmcp_serverless.transports.attendance import Attendance
from tmcp_serverless.transports.conversation import Conversation
from tmcp_serverless.transports.exchange import Exchange
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.jsonrpc import dump, error_answer
from tmcp_serverless.transports.outbound import LogFilter, SessionOutbound
from tmcp_serverless.transports.recording import RECORDED, is_offered, record
from tmcp_serverless.transports.refusals import STOPPED
from tmcp_serverless.transports.versions import RESUMABLE_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.sessions.managers import SessionManagers
    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.asgi import Scope, Send
    from tmcp_serverless.transports.channel import ResponseChannel
    from tmcp_serverless.transports.host import Host
    from tmcp_serverless.transports.options import HttpOptions
    from tmcp_serverless.transports.runtime import ServerRuntime
    from tmcp_serverless.transports.session import LoadedSession

__all__ = ["MessageRunner"]

logger = logging.getLogger(__name__)

_ABOUT_CLIENT_BYTES = 64 * 1024
"""Most bytes of JSON that a client may say of itself in `initialize`."""

_DRAIN_SECONDS = 1.0
"""Seconds that a stream's connection may take to end: a client that does not read delays nothing."""


class MessageRunner:
    """Runner of requests and notifications of handshake-era sessions."""

    def __init__(self, runtime: ServerRuntime, managers: SessionManagers, options: HttpOptions) -> None:
        self._runtime = runtime
        self._managers = managers
        self._options = options
        self._open: set[Exchange] = set()

    async def drain(self) -> None:
        """End the connections of the streams that can be continued elsewhere."""
        outcomes = await asyncio.gather(
            *(_close_in_time(exchange) for exchange in self._open), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                logger.error("a stream's connection could not be ended", exc_info=outcome)

    async def answer(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> None:
        """Run a request and answer the POST with it."""
        host = host_of(scope)
        conversation = self._conversation(session, message["id"], can_ask=host.streams)
        new_journal = None
        keeps_events = self._options.replay and self._managers.streams.can_resume
        if keeps_events and host.streams and session.record.protocol_version >= RESUMABLE_VERSION:
            new_journal = partial(conversation.journal, retry_milliseconds=self._options.retry_milliseconds)
        exchange = Exchange(send, headers=session.headers, batch=False, new_journal=new_journal)
        self._open.add(exchange)
        try:
            async with self._attendance(host, session, exchange, [conversation]):
                await exchange.answer(await self._run(scope, session, message, exchange, conversation))
                await exchange.finish()
        except asyncio.CancelledError:
            # The host is stopping: a client that resumes the stream is told, rather than kept waiting.
            await asyncio.shield(exchange.abandon(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
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
            try:
                answer = await self._run(scope, session, message, exchange, conversation)
            except asyncio.CancelledError:
                await asyncio.shield(exchange.answer(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
                raise
            await exchange.answer(answer)

        try:
            async with self._attendance(host, session, exchange, [conversation for _, conversation in pairs]):
                async with asyncio.TaskGroup() as group:
                    for message, conversation in pairs:
                        group.create_task(run(message, conversation))
                await exchange.finish()
        except asyncio.CancelledError:
            await asyncio.shield(exchange.finish())
            raise

    async def notify(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a notification's handler. Its messages go to the session's standalone stream."""
        streams = self._managers.streams
        # Without a POST's stream it can ask only on an open standalone stream.
        can_ask = host_of(scope).streams and (session.is_stream or await streams.has(session.id))
        conversation = self._conversation(session, None, can_ask=can_ask)
        outbound = SessionOutbound(
            streams,
            session.id,
            self._log_filter(session),
            is_stream=session.is_stream,
            conversation=conversation,
        )

        async def emit(emitted: Json) -> None:
            await outbound.notify(emitted["method"], emitted.get("params"))

        call = sdk.Call(scope, None, None, emit=emit)
        connection = session.connection(outbound, can_ask=can_ask)
        state = await self._runtime.lifespan_state()
        async with self._attendance(host_of(scope), session, None, [conversation]):
            await self._runtime.kernel.notify(call, message, connection, state)

    async def initialize(
        self, scope: Scope, id: str, message: Json, principal: str, *, pushes: bool
    ) -> tuple[Json, SessionRecord | None]:
        """Run `initialize`, and return its answer and the session that it makes.

        `pushes`: `True` if the client can be sent messages that it did not ask for.
        """
        params = message.get("params") or {}
        about = json.dumps([params.get("clientInfo"), params.get("capabilities")])
        if len(about) > _ABOUT_CLIENT_BYTES:
            # Every request of the session would have to read it.
            wrong = f"clientInfo and capabilities have {len(about)} bytes of JSON together; at most"
            text = f"Invalid params: {wrong} {_ABOUT_CLIENT_BYTES} are accepted"
            return error_answer(message, INVALID_PARAMS, text), None
        streams = self._managers.streams
        conversation = Conversation(streams, id, None, can_ask=False)
        outbound = SessionOutbound(
            streams,
            id,
            LogFilter.at(None),
            is_stream=is_stream_session_id(id),
            conversation=conversation,
        )
        connection = sdk.new_connection(id, outbound)
        call = sdk.Call(scope, message["id"], message.get("params"), emit=_nowhere)
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state, pushes=pushes)
        if not succeeded:
            return answer, None
        settled = SessionRecord(
            protocol_version=connection.protocol_version,
            client_info=params["clientInfo"],
            client_capabilities=params["capabilities"],
            principal=principal,
        )
        return answer, settled

    def _conversation(
        self, session: LoadedSession, request_id: str | int | None, *, can_ask: bool
    ) -> Conversation:
        return Conversation(self._managers.streams, session.id, request_id, can_ask=can_ask)

    def _attendance(
        self, host: Host, session: LoadedSession, exchange: Exchange | None, conversations: list[Conversation]
    ) -> Attendance:
        async def session_is_there() -> bool:
            found = await self._managers.info.load(session.id, principal=session.record.principal)
            return found is not None

        return Attendance(exchange, conversations, host, self._options, session_is_there=session_is_there)

    def _interrupter(self, session_id: str) -> Callable[[], Awaitable[None]]:
        async def interrupt() -> None:
            await self._managers.streams.release(session_id)

        return interrupt

    async def _run(
        self,
        scope: Scope,
        session: LoadedSession,
        message: Json,
        exchange: ResponseChannel,
        conversation: Conversation,
    ) -> bytes:
        """Run a request and return its answer as JSON."""
        if not is_offered(self._managers.info, message["method"]):
            return dump(error_answer(message, METHOD_NOT_FOUND, "Method not found"))
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
            kind="sse" if session.is_stream else "streamable-http",
        )
        conversation.on_cancelled = call.cancel
        outbound = SessionOutbound(
            self._managers.streams,
            session.id,
            log_filter,
            is_stream=session.is_stream,
            conversation=conversation,
            fallback=None if session.is_stream else emit,
        )
        connection = session.connection(outbound, can_ask=conversation.can_ask)
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state)
        if succeeded and message["method"] in RECORDED:
            answer = await record(self._managers.info, session.id, message) or answer
        try:
            return dump(answer)
        except ValueError as error:
            logger.error("the answer to %r cannot be written as JSON: %s", message["method"], error)  # noqa: TRY400
            return dump(error_answer(message, INTERNAL_ERROR, "The result cannot be written as JSON"))

    def _log_filter(self, session: LoadedSession) -> LogFilter:
        return LogFilter.at(session.record.log_level if self._options.answer_session_methods else None)


async def _close_in_time(exchange: Exchange) -> None:
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await exchange.close_connection(unless_waiting=True)
    except TimeoutError:
        logger.debug("a stream's connection is left to its host: the client does not read")


async def _nowhere(message: Json) -> None:
    logger.debug("dropped %s: a session that is being initialized has no stream yet", message["method"])
