"""Running the messages of one POST through the SDK's kernel, for a session that has been loaded.

Imports `mcp`: a GET, a DELETE and an answer do without this module.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmcp_serverless import sdk
from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.sessions.records import SessionRecord
from tmcp_serverless.transports.addresses import request_name
from tmcp_serverless.transports.asgi import INTERNAL_ERROR, INVALID_PARAMS
from tmcp_serverless.transports.exchange import Exchange
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.inbox import Inbox
from tmcp_serverless.transports.journal import Journal
from tmcp_serverless.transports.jsonrpc import dump
from tmcp_serverless.transports.lasting import Attendance, close_inbox
from tmcp_serverless.transports.outbound import LogFilter, SessionOutbound
from tmcp_serverless.transports.questions import Questions
from tmcp_serverless.transports.versions import RESUMABLE_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.asgi import Scope, Send
    from tmcp_serverless.transports.loaded import LoadedSession
    from tmcp_serverless.transports.options import HttpOptions
    from tmcp_serverless.transports.runtime import ServerRuntime

__all__ = ["MessageRunner"]

logger = logging.getLogger(__name__)

_RECORDED = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
_LONGEST_URI_BYTES = 2_000
"""What an index entry of Postgres holds, with room to spare."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A request that is being handled."""

    message: Json
    call: sdk.Call
    connection: sdk.Connection
    inbox: Inbox


class MessageRunner:
    """Runs requests and notifications of handshake-era sessions."""

    def __init__(self, runtime: ServerRuntime, managers: SessionManagers, options: HttpOptions) -> None:
        self._runtime = runtime
        self._managers = managers
        self._options = options

    async def answer(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> None:
        """Run a request and answer the POST with it."""
        exchange = self._exchange(scope, send, session, message)
        running = self._prepare(scope, session, message, exchange)
        async with self._attendance(scope, session, exchange, [running]):
            await exchange.answer(await self._run(session, running))
            await exchange.finish()

    async def answer_batch(
        self, scope: Scope, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Run the requests of a batch side by side, and answer the POST with all of them."""
        exchange = Exchange(send, headers=session.headers, batch=True, journal=None)
        all_running = [self._prepare(scope, session, message, exchange) for message in messages]

        async def run(running: _Running) -> None:
            running.call.runs_in_this_task()
            await exchange.answer(await self._run(session, running))

        async with self._attendance(scope, session, exchange, all_running):
            async with asyncio.TaskGroup() as group:
                for running in all_running:
                    group.create_task(run(running))
            await exchange.finish()

    async def notify(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a notification's handler. What it says goes to the session's standalone stream."""
        name = request_name(None)
        inbox = Inbox(self._managers.streams, session.id, name)
        questions = Questions(inbox, name, allowed=await self._can_ask_on_its_own(scope, session))
        outbound = SessionOutbound(
            self._managers.streams, session.id, self._log_filter(session), questions=questions
        )

        async def emit(emitted: Json) -> None:
            await outbound.notify(emitted["method"], emitted.get("params"))

        call = sdk.Call(scope, None, None, emit=emit)
        connection = sdk.restore_connection(session.id, session.record, outbound)
        state = await self._runtime.lifespan_state()
        try:
            await self._runtime.kernel.notify(call, message, connection, state)
        finally:
            await close_inbox(inbox)

    async def initialize(
        self, scope: Scope, id: str, message: Json, principal: str
    ) -> tuple[Json, SessionRecord | None]:
        """Run `initialize`, and return its answer and the session that it makes."""
        name = request_name(None)
        questions = Questions(Inbox(self._managers.streams, id, name), name, allowed=False)
        outbound = SessionOutbound(self._managers.streams, id, LogFilter(None), questions=questions)
        connection = sdk.new_connection(id, outbound)
        call = sdk.Call(scope, message["id"], message.get("params"), emit=_nowhere)
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state)
        if not succeeded:
            return answer, None
        params = message["params"]
        record = SessionRecord(
            connection.protocol_version, params["clientInfo"], params["capabilities"], principal
        )
        return answer, record

    def _attendance(
        self, scope: Scope, session: LoadedSession, exchange: Exchange, requests: list[_Running]
    ) -> Attendance:
        async def session_is_there() -> bool:
            record = await self._managers.info.load(session.id, principal=session.record.principal)
            return record is not None

        return Attendance(
            exchange,
            [running.inbox for running in requests],
            host_of(scope),
            self._options,
            session_is_there=session_is_there,
        )

    def _exchange(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> Exchange:
        journal = None
        resumable = session.record.protocol_version >= RESUMABLE_VERSION and host_of(scope).streams
        if self._options.replay and resumable:
            journal = Journal(
                self._managers.streams,
                session.id,
                request_name(message["id"]),
                retry_milliseconds=self._options.retry_milliseconds,
            )
        return Exchange(send, headers=session.headers, batch=False, journal=journal)

    def _prepare(self, scope: Scope, session: LoadedSession, message: Json, exchange: Exchange) -> _Running:
        """Return what the request is handled with: its own way to the client, and its session's."""
        name = request_name(message["id"])
        inbox = Inbox(self._managers.streams, session.id, name)
        log_filter = self._log_filter(session)
        questions = Questions(inbox, name, allowed=host_of(scope).streams)

        async def emit(emitted: Json) -> None:
            if log_filter.passes(emitted):
                await exchange.emit(emitted)

        outbound = SessionOutbound(
            self._managers.streams, session.id, log_filter, questions=questions, fallback=emit
        )
        call = sdk.Call(
            scope,
            message["id"],
            message.get("params"),
            emit=emit,
            questions=questions,
            close_stream=exchange.close_connection if exchange.can_close else None,
            close_standalone_stream=self._interrupter(session.id) if exchange.can_close else None,
        )
        inbox.on_cancelled = call.cancel
        return _Running(message, call, sdk.restore_connection(session.id, session.record, outbound), inbox)

    def _interrupter(self, session_id: str) -> Callable[[], Awaitable[None]]:
        async def interrupt() -> None:
            await self._managers.streams.interrupt(session_id)

        return interrupt

    async def _run(self, session: LoadedSession, running: _Running) -> bytes:
        """Run a request and return its answer as JSON."""
        message = running.message
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(
            running.call, message, running.connection, state
        )
        if succeeded and message["method"] in _RECORDED:
            answer = await self._record(session.id, message) or answer
        try:
            return dump(answer)
        except ValueError as error:
            logger.error("the answer to %r cannot be written as JSON: %s", message["method"], error)  # noqa: TRY400
            return dump(_error(message, INTERNAL_ERROR, "The result cannot be written as JSON"))

    async def _can_ask_on_its_own(self, scope: Scope, session: LoadedSession) -> bool:
        """Return whether a handler without a POST's stream can ask: only where a standalone one is open."""
        return host_of(scope).streams and await self._managers.streams.has(session.id)

    def _log_filter(self, session: LoadedSession) -> LogFilter:
        return LogFilter(session.record.log_level if self._options.answer_session_methods else None)

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
