"""Streamable HTTP of the handshake era: protocol revisions 2025-03-26, 2025-06-18 and 2025-11-25.

Every request may land on another instance: what it needs of its session is loaded in one round trip, and what
a handler says goes to the request's own answer or to the session's mailbox.
(modelcontextprotocol.io/specification, basic/transports of each revision)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import (
    ConfigurationError,
    InvalidCursorError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from tmcp_serverless.sessions.ids import is_session_id, mint_session_id
from tmcp_serverless.sessions.records import ANONYMOUS, SessionRecord
from tmcp_serverless.transports.asgi import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    HttpProblem,
    Receive,
    Request,
    Scope,
    Send,
    path_of,
    respond,
)
from tmcp_serverless.transports.host import host_of
from tmcp_serverless.transports.jsonrpc import Kind, dump, kind_of, parse
from tmcp_serverless.transports.messages import LoadedSession, MessageRunner
from tmcp_serverless.transports.outbound import LogFilter, SessionOutbound
from tmcp_serverless.transports.runtime import ServerRuntime
from tmcp_serverless.transports.standalone import StandaloneStream
from tmcp_serverless.transports.versions import BATCH_VERSION, HANDSHAKE_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.sessions.records import Json

__all__ = ["HttpTransport"]

logger = logging.getLogger(__name__)

_SWEPT_ROWS = 10


class HttpTransport:
    """An ASGI application that serves an MCP server to handshake-era clients.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`; or a `ServerRuntime` to share.
        session_manager: Where sessions and their streams are.
        path: Where it answers; every other path is 404.
        disable_sse: Whether a GET is refused with 405 instead of opening the standalone stream.
        answer_session_methods: Whether `logging/setLevel` and `resources/subscribe` are answered for servers
            that cannot register handlers for them, and the level is applied to what is sent.
        max_body_bytes: The longest body that is accepted; a longer one is 413.
        defer_seconds: How long a request may run before its answer becomes an event stream.
        stream_max_seconds: How long a standalone stream lasts at the most; the client continues after it.
        buffered_wait_seconds: How long a GET waits for events on a host that delivers answers whole; 0: 405.
        principal: Returns who is asking, from the ASGI scope; by default the SDK's authenticated user.

    """

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManagers,
        path: str = "/mcp",
        disable_sse: bool = False,
        answer_session_methods: bool = True,
        max_body_bytes: int = 4 * 1024 * 1024,
        defer_seconds: float = 5.0,
        stream_max_seconds: float = 300.0,
        buffered_wait_seconds: float = 20.0,
        principal: Callable[[Scope], str] | None = None,
    ) -> None:
        self._runtime = (
            server
            if isinstance(server, ServerRuntime)
            else ServerRuntime(server, answer_session_methods=answer_session_methods)
        )
        self._managers = session_manager
        self._runner = MessageRunner(
            self._runtime,
            session_manager,
            apply_log_level=answer_session_methods,
            defer_seconds=defer_seconds,
        )
        self._path = path.rstrip("/")
        self._disable_sse = disable_sse
        self._max_body_bytes = max_body_bytes
        self._stream_max_seconds = stream_max_seconds
        self._buffered_wait_seconds = buffered_wait_seconds
        self._principal = principal or _principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        try:
            await self._serve(Request(scope, receive), send)
        except HttpProblem as problem:
            await problem.answer(send)
        except SessionNotFoundError:
            await HttpProblem(404, "Session not found").answer(send)
        except StoreUnavailableError as error:
            logger.warning("answered 503: %s", error)
            await _UNAVAILABLE.answer(send)
        except ConfigurationError as error:
            logger.error("answered 503: %s", error)  # noqa: TRY400 - one sentence that names the setting
            await _NOT_READY.answer(send)

    async def _serve(self, request: Request, send: Send) -> None:
        if path_of(request.scope) != self._path:
            raise HttpProblem(404, "Not Found")
        match request.method:
            case "POST":
                await self._post(request, send)
            case "GET":
                await self._get(request, send)
            case "DELETE":
                await self._delete(request, send)
            case "OPTIONS":
                await respond(send, 204, b"", [(b"allow", self._allowed)])
            case _:
                raise HttpProblem(405, "Method Not Allowed", headers=[(b"allow", self._allowed)])

    @property
    def _allowed(self) -> bytes:
        return b"POST, DELETE, OPTIONS" if self._disable_sse else b"GET, POST, DELETE, OPTIONS"

    async def _post(self, request: Request, send: Send) -> None:
        _check_post_headers(request)
        message = parse(await request.body(limit_bytes=self._max_body_bytes))
        if type(message) is list:
            await self._batch(request, send, message)
            return
        kind = kind_of(message)
        if kind is Kind.REQUEST and message["method"] == "initialize":
            await self._initialize(request, send, message)
            return
        session = await self._session(request)
        if kind is Kind.REQUEST:
            await self._runner.answer(request.scope, send, session, message)
        elif kind is Kind.NOTIFICATION:
            await self._accept(request, send, session, [message])
        else:
            await self._accept(request, send, session, [])

    async def _accept(
        self, request: Request, send: Send, session: LoadedSession, notifications: list[Json]
    ) -> None:
        """Take what needs no answer: 202 once it is safe, then the handlers."""
        if any(message["method"] == "notifications/initialized" for message in notifications):
            await self._managers.info.mark_initialized(session.id)
        await respond(send, 202, b"", session.headers)
        for message in notifications:
            await self._runner.notify(request.scope, session, message)

    async def _batch(self, request: Request, send: Send, messages: list[Any]) -> None:
        session = await self._session(request)
        if session.record.protocol_version != BATCH_VERSION or not messages:
            wrong = "an empty batch" if not messages else f"batches exist at {BATCH_VERSION} only"
            raise HttpProblem(400, f"Validation error: {wrong}", code=INVALID_PARAMS)
        kinds = [kind_of(message) for message in messages]
        if any(message.get("method") == "initialize" for message in messages):
            raise HttpProblem(400, "Validation error: initialize must not be in a batch", code=INVALID_PARAMS)
        of_kind = {
            kind: [message for message, its in zip(messages, kinds, strict=True) if its is kind]
            for kind in Kind
        }
        if not of_kind[Kind.REQUEST]:
            await self._accept(request, send, session, of_kind[Kind.NOTIFICATION])
            return
        for message in of_kind[Kind.NOTIFICATION]:
            await self._runner.notify(request.scope, session, message)
        await self._runner.answer_batch(request.scope, send, session, of_kind[Kind.REQUEST])

    async def _initialize(self, request: Request, send: Send, message: Json) -> None:
        """Make a session: durable before the answer, so that whoever gets the next request finds it."""
        from tmcp_serverless import sdk  # noqa: PLC0415 - a GET, a DELETE and an answer do without mcp

        known = "mcp-session-id" in request.headers
        id = (await self._session(request)).id if known else mint_session_id()
        call = sdk.Call(request.scope, message["id"], message.get("params"), _nowhere)
        outbound = SessionOutbound(self._managers.streams, id, LogFilter(None))
        connection = sdk.new_connection(id, outbound)
        state = await self._runtime.lifespan_state()
        answer, succeeded = await self._runtime.kernel.answer(call, message, connection, state)
        headers = [(b"content-type", b"application/json")]
        if succeeded:
            record = SessionRecord(
                connection.protocol_version,
                message["params"]["clientInfo"],
                message["params"]["capabilities"],
                self._principal(request.scope),
            )
            await self._managers.info.initialize(id, record)
            await self._managers.streams.prepare(id)
            headers.append((b"mcp-session-id", id.encode()))
        await respond(send, 200, dump(answer), headers)
        await self._sweep()

    async def _sweep(self) -> None:
        """Take a few expired rows along, after the answer."""
        try:
            await self._managers.info.sweep(limit=_SWEPT_ROWS)
            await self._managers.streams.sweep(limit=_SWEPT_ROWS)
        except StoreUnavailableError as error:
            logger.debug("nothing was swept: %s", error)

    async def _get(self, request: Request, send: Send) -> None:
        host = host_of(request.scope)
        wait = self._stream_max_seconds if host.streams else self._buffered_wait_seconds
        if self._disable_sse or wait <= 0:
            allowed = [(b"allow", b"POST, DELETE, OPTIONS")]
            raise HttpProblem(
                405, "Method Not Allowed: this server has no standalone stream", headers=allowed
            )
        if not request.accepts()[1]:
            raise HttpProblem(406, "Not Acceptable: Client must accept text/event-stream")
        session = await self._session(request)
        stream = StandaloneStream(send, headers=session.headers, one_batch=not host.streams)
        streams = self._managers.streams
        try:
            await streams.create(session.id, stream, after=request.headers.get("last-event-id"))
        except InvalidCursorError as error:
            raise HttpProblem(400, f"Invalid Last-Event-ID: {error}") from None
        try:
            await stream.serve(request, seconds=host.seconds_left(at_most=wait))
        finally:
            try:
                await streams.release(session.id, stream)
            except StoreUnavailableError as error:
                logger.debug("the lease is left to expire: %s", error)
        await stream.finish()

    async def _delete(self, request: Request, send: Send) -> None:
        session = await self._session(request)
        # The metadata first: from then on the id is 404 on every instance.
        await self._managers.info.delete(session.id)
        await self._managers.streams.delete(session.id)
        await respond(send, 200, b"", [(b"content-type", b"application/json"), *session.headers])

    async def _session(self, request: Request) -> LoadedSession:
        """Load the session that the request names.

        Raises:
            HttpProblem: 400 when it names none, or speaks a revision of no era that has sessions.
            SessionNotFoundError: It is unknown, malformed, expired, or somebody else's.

        """
        version = request.headers.get("mcp-protocol-version")
        if version is not None and version not in HANDSHAKE_VERSIONS:
            supported = ", ".join(HANDSHAKE_VERSIONS)
            raise HttpProblem(
                400, f"Bad Request: Unsupported protocol version: {version[:32]} (supported: {supported})"
            )
        id = request.headers.get("mcp-session-id")
        if id is None:
            raise HttpProblem(400, "Bad Request: Missing session ID")
        if not is_session_id(id):
            raise SessionNotFoundError
        record = await self._managers.info.load(id, principal=self._principal(request.scope))
        if record is None:
            raise SessionNotFoundError
        return LoadedSession(id, record)


_UNAVAILABLE = HttpProblem(
    503,
    "The session store cannot be reached; try again",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"1")],
)
_NOT_READY = HttpProblem(
    503,
    "The server is not configured rightly; its log says what to change",
    code=INTERNAL_ERROR,
    headers=[(b"retry-after", b"5")],
)


def _check_post_headers(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HttpProblem(400, "Invalid Content-Type header")
    if not all(request.accepts()):
        raise HttpProblem(
            406, "Not Acceptable: Client must accept both application/json and text/event-stream"
        )


def _principal(scope: Scope) -> str:
    if "user" not in scope:
        return ANONYMOUS
    from tmcp_serverless.sdk import principal_of  # noqa: PLC0415 - without authentication nothing needs mcp

    return principal_of(scope)


async def _nowhere(message: Json) -> None:
    logger.debug("dropped %s: a session that is being initialized has no stream yet", message["method"])
