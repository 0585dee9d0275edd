"""Runner of the messages of one POST through the SDK's kernel, for a session that has been loaded.

Imports `mcp`: a GET, a DELETE and a reply do without this module.
"""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from tmcp_serverless.handshake.addresses import request_name
from tmcp_serverless.handshake.journal import Journal
from tmcp_serverless.handshake.post_response import PostResponse
from tmcp_serverless.handshake.running_request import RunningRequest
from tmcp_serverless.handshake.session import CHANGES, LoadedSession, is_offered, store_change
from tmcp_serverless.http import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LONG_URI_TEXT,
    METHOD_NOT_FOUND,
    RESUMABLE_VERSION,
    STOPPED,
    dump,
    error_answer,
    has_long_uri,
    platform_of,
)
from tmcp_serverless.sessions import SessionRecord

if TYPE_CHECKING:
    from tmcp_serverless.handshake.post_response import ResponseWriter
    from tmcp_serverless.http import HttpOptions, Scope, Send
    from tmcp_serverless.sdk.runtime import ServerRuntime
    from tmcp_serverless.sessions import Json, SessionManagers

__all__ = ["MessageRunner"]

logger = logging.getLogger(__name__)

_ABOUT_CLIENT_BYTES = 64 * 1024
"""Most bytes of JSON that a client may say of itself in `initialize`."""


class MessageRunner:
    """Runner of requests and notifications of handshake-era sessions.

    Args:
        server: The server that has the handlers.
        managers: The managers of the sessions.
        options: The transport's options.
        open_responses: Takes each POST's response while it is open.

    """

    def __init__(
        self,
        server: ServerRuntime,
        managers: SessionManagers,
        options: HttpOptions,
        open_responses: set[PostResponse],
    ) -> None:
        self._server = server
        self._managers = managers
        self._options = options
        self._open_responses = open_responses
        self._resumable = options.replay and managers.streams.can_resume

    async def answer(self, scope: Scope, send: Send, session: LoadedSession, message: Json) -> None:
        """Run a request and answer the POST with it."""
        streams = platform_of(scope).streams
        resumable = streams and self._resumable
        new_journal = None
        if resumable and session.record.protocol_version >= RESUMABLE_VERSION:
            new_journal = partial(self._new_journal, session, message["id"])
        response = PostResponse(send, headers=session.headers, batch=False, new_journal=new_journal)
        running = self._running(scope, session, message, response, can_send_requests=streams)
        self._open_responses.add(response)
        try:
            async with response, running:
                await response.answer(await self._run(running))
                await response.finish()
        except asyncio.CancelledError:
            # The host is stopping: a client that resumes the stream is told, rather than kept waiting.
            await asyncio.shield(response.abandon(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
            raise
        finally:
            self._open_responses.discard(response)

    async def answer_batch(
        self, scope: Scope, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Run the requests of a batch side by side, and answer the POST with all of them."""
        streams = platform_of(scope).streams
        response = PostResponse(send, headers=session.headers, batch=True, new_journal=None)

        async def run(message: Json) -> None:
            try:
                async with self._running(
                    scope, session, message, response, can_send_requests=streams
                ) as running:
                    answer = await self._run(running)
            except asyncio.CancelledError:
                await asyncio.shield(response.answer(dump(error_answer(message, INTERNAL_ERROR, STOPPED))))
                raise
            await response.answer(answer)

        try:
            async with response:
                async with asyncio.TaskGroup() as group:
                    for message in messages:
                        group.create_task(run(message))
                        # Others are served in between: a hundred handlers would begin at once.
                        await asyncio.sleep(0)
                await response.finish()
        except asyncio.CancelledError:
            await asyncio.shield(response.finish())
            raise

    async def notify(self, scope: Scope, session: LoadedSession, message: Json) -> None:
        """Run a notification's handler. Its messages go to the session's standalone stream."""
        # Without a POST's stream it can ask only on an open standalone stream.
        can_send_requests = platform_of(scope).streams and (
            session.is_http_sse or await self._managers.streams.has(session.id)
        )
        running = self._running(scope, session, message, can_send_requests=can_send_requests)
        connection = session.connection(running.session_messages, can_send_requests=can_send_requests)
        state = await self._server.lifespan_state()
        async with running:
            await self._server.kernel.notify(running, message, connection, state)

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
        session = LoadedSession.before_initialize(id, principal=principal)
        running = self._running(scope, session, message, can_send_requests=False)
        connection = session.connection(running.session_messages, can_send_requests=False)
        state = await self._server.lifespan_state()
        kernel = self._server.kernel
        answer, succeeded = await kernel.answer(running, message, connection, state, pushes=pushes)
        if not succeeded:
            return answer, None
        settled = SessionRecord(
            protocol_version=connection.protocol_version,
            client_info=params["clientInfo"],
            client_capabilities=params["capabilities"],
            principal=principal,
        )
        return answer, settled

    def _running(
        self,
        scope: Scope,
        session: LoadedSession,
        message: Json,
        response: ResponseWriter | None = None,
        *,
        can_send_requests: bool,
    ) -> RunningRequest:
        return RunningRequest(
            message,
            session=session,
            scope=scope,
            managers=self._managers,
            options=self._options,
            response=response,
            can_send_requests=can_send_requests,
        )

    def _new_journal(self, session: LoadedSession, request_id: str | int) -> Journal:
        return Journal(
            *(self._managers.streams, session.id, request_name(request_id)),
            retry_milliseconds=self._options.retry_milliseconds,
        )

    async def _run(self, running: RunningRequest) -> bytes:
        """Run a request and return its answer as JSON."""
        message, session, info = running.message, running.session, self._managers.info
        if not is_offered(info, message["method"]):
            return dump(error_answer(message, METHOD_NOT_FOUND, "Method not found"))
        if has_long_uri(message.get("params")):
            return dump(error_answer(message, INVALID_PARAMS, LONG_URI_TEXT))
        connection = session.connection(running.session_messages, can_send_requests=running.can_send_requests)
        state = await self._server.lifespan_state()
        answer, succeeded = await self._server.kernel.answer(running, message, connection, state)
        if succeeded and message["method"] in CHANGES:
            answer = await store_change(info, session.id, message) or answer
        try:
            return dump(answer)
        except ValueError as error:
            logger.error("the answer to %r cannot be written as JSON: %s", message["method"], error)  # noqa: TRY400
            return dump(error_answer(message, INTERNAL_ERROR, "The result cannot be written as JSON"))
