"""Streamable HTTP of the handshake era: protocol revisions 2025-03-26, 2025-06-18 and 2025-11-25.

Every request may land on another instance. The data that it needs of its session is loaded in one round trip.
A handler's messages go to the request's own response or to the session's mailbox.
(modelcontextprotocol.io/specification, basic/transports of each revision)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import SessionNotFoundError
from tmcp_serverless.handshake.get import GetStreams
from tmcp_serverless.handshake.post_response import close_connections
from tmcp_serverless.handshake.session import LoadedSession
from tmcp_serverless.handshake.transport import (
    HandshakeTransport,
    check_content_type,
    check_version,
    split_batch,
)
from tmcp_serverless.http import (
    HttpOptions,
    HttpProblem,
    Kind,
    classify,
    dump,
    parse,
    path_of,
    platform_of,
    respond,
)
from tmcp_serverless.sessions.addresses import is_session_id, is_stream_session_id, mint_session_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.http import OriginPolicy, Request, Scope, Send
    from tmcp_serverless.sessions import Json, SessionManagers

__all__ = ["HttpTransport"]


class HttpTransport(HandshakeTransport):
    """ASGI application that serves an MCP server to handshake-era clients.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`, behind its own authentication and beside
            its own routes; or a `ServerRuntime` to share, behind anything that its owner has put in front.
        session_manager: The managers of sessions and their streams.
        path: The path that it answers at; every other path is 404.
        principal: Returns the caller's identity from the ASGI scope; by default the SDK's authenticated user.
        policy: The `Host` and `Origin` headers that are accepted; by default the endpoint's own origin, and
            loopback to loopback.
        options: The transport's options.

    """

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManagers,
        path: str = "/mcp",
        principal: Callable[[Scope], str] | None = None,
        policy: OriginPolicy | None = None,
        options: HttpOptions | None = None,
    ) -> None:
        super().__init__(
            server,
            session_manager=session_manager,
            paths=(path,),
            principal=principal,
            policy=policy,
            options=options or HttpOptions(),
        )
        self._get_streams = GetStreams(session_manager, self._options)

    async def drain(self) -> None:
        """End the open streams that clients can continue elsewhere. Running requests go on."""
        self._get_streams.drain()
        await close_connections(self._open_responses)

    async def _serve(self, request: Request, send: Send) -> None:
        if path_of(request.scope) not in self.paths:
            raise HttpProblem(404, "Not Found")
        match request.method:
            case "POST":
                await self._post(request, send)
            case "GET":
                await self._get_streams.serve(request, send, self._session)
            case "DELETE":
                await self._delete(request, send)
            case "OPTIONS":
                await respond(send, 204, b"", [(b"allow", self._get_streams.allowed_methods)])
            case _:
                allowed = [(b"allow", self._get_streams.allowed_methods)]
                raise HttpProblem(405, "Method Not Allowed", headers=allowed)

    async def _post(self, request: Request, send: Send) -> None:
        check_content_type(request)
        if not all(request.accepts()):
            raise HttpProblem(
                406, "Not Acceptable: Client must accept both application/json and text/event-stream"
            )
        # The body is in no variable: it would stay in memory for as long as the request runs.
        message = await parse(await request.body(limit_bytes=self._options.max_body_bytes), self._options)
        if type(message) is list:
            await self._batch(request, send, message)
            return
        kind, message = classify(message)
        if kind is Kind.REQUEST and message["method"] == "initialize":
            await self._initialize(request, send, message)
            return
        session = await self._session(request)
        if kind is Kind.REQUEST:
            await self._runner.answer(request.scope, send, session, message)
        else:
            await self._accept(request, send, session, [message])

    async def _accept(
        self, request: Request, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Take messages that need no answer: 202 once each is safely delivered, then the handlers."""
        for message in messages:
            await self._forward(session, message)
            if len(messages) > 1:
                await asyncio.sleep(0)  # in memory nothing else lets others run
        await respond(send, 202, b"", session.headers)
        await self._notify(request, session, messages)

    async def _batch(self, request: Request, send: Send, messages: list[Any]) -> None:
        session = await self._session(request)
        requests, others = split_batch(session, messages)
        if not requests:
            await self._accept(request, send, session, others)
            return
        for message in others:
            await self._forward(session, message)
            await self._notify(request, session, [message])
            await asyncio.sleep(0)
        await self._runner.answer_batch(request.scope, send, session, requests)

    async def _initialize(self, request: Request, send: Send, message: Json) -> None:
        """Create a session, or initialize one anew.

        It is durable before the answer, so that the next request finds it.

        Raises:
            SessionNotFoundError: The request names a session that does not exist, or not any more.

        """
        check_version(request)
        known = "mcp-session-id" in request.headers
        id = (await self._session(request)).id if known else mint_session_id()
        pushes = not self._options.disable_sse and (
            platform_of(request.scope).streams or self._options.buffered_wait_seconds > 0
        )
        principal = self._principal(request.scope)
        answer, record = await self._runner.initialize(request.scope, id, message, principal, pushes=pushes)
        headers = [(b"content-type", b"application/json")]
        if record is not None:
            if not known:
                await self._managers.info.initialize(id, record)
                await self._managers.streams.prepare(id)
            elif not await self._managers.info.initialize(id, record, only_if_exists=True):
                # The session has been deleted since it was loaded, and stays deleted.
                raise SessionNotFoundError
            headers.append((b"mcp-session-id", id.encode()))
        await respond(send, 200, dump(answer), headers)
        await self._sweep(principal)

    async def _delete(self, request: Request, send: Send) -> None:
        session = await self._session(request)
        # The metadata first: from then on the id is 404 on every instance.
        await self._managers.info.delete(session.id)
        await self._managers.streams.delete(session.id)
        await respond(send, 200, b"", [(b"content-type", b"application/json"), *session.headers])

    async def _session(self, request: Request) -> LoadedSession:
        """Load the session that the request names.

        Raises:
            HttpProblem: 400 if the request names none, or has a revision of no era with sessions.
            SessionNotFoundError: The id is malformed, or its session is unknown, expired, another
                principal's, or of HTTP+SSE.

        """
        check_version(request)
        id = request.headers.get("mcp-session-id")
        if id is None:
            raise HttpProblem(400, "Bad Request: Missing session ID")
        if not is_session_id(id) or is_stream_session_id(id):
            raise SessionNotFoundError
        return await LoadedSession.load(self._managers.info, id, principal=self._principal(request.scope))
