"""HTTP+SSE, the transport of protocol revision 2024-11-05, for clients that know no other.

GET opens the session's one stream. The first event has the address for POSTs. A POST may land on any
instance. It is answered 202 once its session has been checked. Its results are appended to the session's
mailbox, and the instance that holds the stream reads them there.
(modelcontextprotocol.io/specification/2024-11-05/basic/transports)
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from tmcp_serverless.errors import ConfigurationError, SessionNotFoundError
from tmcp_serverless.handshake.http_sse_streams import HttpSseStreams
from tmcp_serverless.handshake.session import LoadedSession
from tmcp_serverless.handshake.transport import (
    HandshakeTransport,
    check_content_type,
    check_version,
    split_batch,
)
from tmcp_serverless.http import (
    ClientStream,
    HttpOptions,
    HttpProblem,
    Kind,
    classify,
    parse,
    path_of,
    respond,
)
from tmcp_serverless.sessions.addresses import is_minted_id, is_stream_session_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.handshake.http_sse_runner import HttpSseRunner
    from tmcp_serverless.http import OriginPolicy, Request, Scope, Send
    from tmcp_serverless.sessions import Json, SessionManagers

__all__ = ["HttpSseTransport"]


class HttpSseTransport(HandshakeTransport):
    """ASGI application that serves an MCP server to clients of HTTP+SSE.

    A tool runs on after the 202, within the POST's ASGI call: a host has to let that finish.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`, behind its own authentication and beside
            its own routes; or a `ServerRuntime` to share, behind anything that its owner has put in front.
        session_manager: The managers of sessions and their streams; may be shared with an `HttpTransport`.
        path: The path that opens streams.
        message_path: The path that messages are posted to; every path but these two is 404.
        principal: Returns the caller's identity from the ASGI scope; by default the SDK's authenticated user.
        policy: The `Host` and `Origin` headers that are accepted; by default the endpoint's own origin, and
            loopback to loopback.
        options: The transport's options. Those about streams that end and are resumed change nothing here,
            except that a session is looked after every `stream_max_seconds`.

    Raises:
        ConfigurationError: Both paths are the same.

    """

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManagers,
        path: str = "/sse",
        message_path: str = "/message",
        principal: Callable[[Scope], str] | None = None,
        policy: OriginPolicy | None = None,
        options: HttpOptions | None = None,
    ) -> None:
        super().__init__(
            server,
            session_manager=session_manager,
            paths=(path, message_path),
            principal=principal,
            policy=policy,
            options=options or HttpOptions(),
        )
        self._streams = HttpSseStreams(session_manager, self._options)
        self._path, self._message_path = self.paths
        if self._path == self._message_path:
            raise ConfigurationError(f"sse_path and message_path are both {path!r}; they have to be two")

    @cached_property
    def _runner(self) -> HttpSseRunner:
        from tmcp_serverless.handshake.http_sse_runner import (  # it imports mcp, which GET,
            HttpSseRunner,  # and replies do without
        )

        return HttpSseRunner(self._server, self._managers, self._options, self._open_responses)

    async def drain(self) -> None:
        """End the open streams and their sessions. Running requests go on."""
        self._streams.drain()

    async def _serve(self, request: Request, send: Send) -> None:
        path = path_of(request.scope)
        if path not in self.paths:
            raise HttpProblem(404, "Not Found")
        allowed = "GET" if path == self._path else "POST"
        if request.method == "OPTIONS":
            await respond(send, 204, b"", _allow(allowed))
        elif request.method != allowed:
            raise HttpProblem(405, "Method Not Allowed", headers=_allow(allowed))
        elif path == self._path:
            root: str = request.scope.get("root_path", "")
            await self._streams.serve(
                request,
                send,
                principal=self._principal(request.scope),
                message_uri=quote(root.rstrip("/") + self._message_path),
            )
        else:
            await self._post(request, send)

    async def _post(self, request: Request, send: Send) -> None:
        # In the order of the SDK's transport, except that refusals that need no session come first.
        body = await request.body(limit_bytes=self._options.max_body_bytes)
        check_content_type(request)
        id = _session_id(request)
        message = await parse(body, self._options)
        classified = None if type(message) is list else classify(message)
        session = await self._session(request, id)
        if classified is None:
            requests, others = split_batch(session, message)
        else:
            kind, message = classified
            requests, others = ([message], []) if kind is Kind.REQUEST else ([], [message])
        for other in others:
            await self._forward(session, other)
            if len(others) > 1:
                await asyncio.sleep(0)
        # The client may be gone before it hears this. Its request runs all the same.
        client = ClientStream(send)
        await client.start(202, [(b"content-type", b"text/plain; charset=utf-8")])
        await client.end(b"Accepted")
        await self._notify(request, session, others)
        await self._run(request, session, requests)

    async def _run(self, request: Request, session: LoadedSession, messages: list[Json]) -> None:
        if len(messages) == 1:
            await self._runner.answer_on_stream(request.scope, session, messages[0])
        else:
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self._runner.answer_on_stream(request.scope, session, message))
                    await asyncio.sleep(0)
        if any(message["method"] == "initialize" for message in messages):
            await self._sweep(session.record.principal)

    async def _session(self, request: Request, id: str) -> LoadedSession:
        """Load the session that the request names, if its stream is live.

        Raises:
            HttpProblem: 400 if the request has a revision of another era.
            SessionNotFoundError: The session is unknown, another principal's, of streamable HTTP, or its
                stream is dead.

        """
        check_version(request)
        if not is_stream_session_id(id):
            raise SessionNotFoundError
        principal = self._principal(request.scope)
        session = await LoadedSession.load(self._managers.info, id, principal=principal, is_http_sse=True)
        if not await self._managers.streams.has(id):
            # Its instance was killed. Without this its rows would stay until they expire.
            await self._streams.forget(id)
            raise SessionNotFoundError
        return session


def _session_id(request: Request) -> str:
    """Return the session id in the request's query.

    Raises:
        HttpProblem: 400 if there is none, or it does not have the form of one.

    """
    query = parse_qs(request.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    id = query.get("session_id", [None])[-1]
    if id is None:
        raise HttpProblem(400, "Bad Request: Missing session ID")
    if not (is_minted_id(id) or _is_uuid(id)):
        raise HttpProblem(400, "Bad Request: Invalid session ID")
    return id


def _is_uuid(text: str) -> bool:
    """Return `True` if the text has the form of the SDK's session ids: such a session is unknown here."""
    from uuid import UUID  # only for ids that are not ours

    try:
        UUID(hex=text)
    except ValueError:
        return False
    return True


def _allow(method: str) -> list[tuple[bytes, bytes]]:
    return [(b"allow", f"{method}, OPTIONS".encode())]
