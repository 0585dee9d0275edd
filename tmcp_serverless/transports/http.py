"""Streamable HTTP of the handshake era: protocol revisions 2025-03-26, 2025-06-18 and 2025-11-25.

Every request may land on another instance: what it needs of its session is loaded in one round trip, and what
a handler says goes to the request's own answer or to the session's mailbox.
(modelcontextprotocol.io/specification, basic/transports of each revision)
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError, SessionNotFoundError, StoreUnavailableError
from tmcp_serverless.sessions.ids import is_session_id, mint_session_id
from tmcp_serverless.sessions.records import ANONYMOUS
from tmcp_serverless.transports.addresses import inbox_of, inbox_of_question, request_name
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
from tmcp_serverless.transports.jsonrpc import Kind, dump, kind_of, parse
from tmcp_serverless.transports.listening import Listening
from tmcp_serverless.transports.loaded import LoadedSession
from tmcp_serverless.transports.options import HttpOptions
from tmcp_serverless.transports.runtime import ServerRuntime
from tmcp_serverless.transports.security import OriginPolicy
from tmcp_serverless.transports.versions import BATCH_VERSION, HANDSHAKE_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.sessions.contracts import SessionManagers
    from tmcp_serverless.sessions.records import Json
    from tmcp_serverless.transports.messages import MessageRunner

__all__ = ["HttpTransport"]

logger = logging.getLogger(__name__)

_SWEPT_ROWS = 10


class HttpTransport:
    """An ASGI application that serves an MCP server to handshake-era clients.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`; or a `ServerRuntime` to share.
        session_manager: Where sessions and their streams are.
        path: Where it answers; every other path is 404.
        principal: Returns who is asking, from the ASGI scope; by default the SDK's authenticated user.
        policy: Which `Host` and `Origin` headers are accepted; by default the endpoint's own origin, and
            loopback to loopback.
        **options: The fields of `HttpOptions`, such as `disable_sse=True`.

    """

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManagers,
        path: str = "/mcp",
        principal: Callable[[Scope], str] | None = None,
        policy: OriginPolicy | None = None,
        **options: Any,
    ) -> None:
        self._options = HttpOptions(**options)
        self._runtime = (
            server
            if isinstance(server, ServerRuntime)
            else ServerRuntime(server, answer_session_methods=self._options.answer_session_methods)
        )
        self._managers = session_manager
        self._listening = Listening(session_manager.streams, self._options)
        self._path = path.rstrip("/")
        self._principal = principal or _principal
        self._policy = policy or OriginPolicy()

    @cached_property
    def _runner(self) -> MessageRunner:
        from tmcp_serverless.transports.messages import (  # noqa: PLC0415 - it imports mcp, which GET,
            MessageRunner,  # DELETE and answers do without
        )

        return MessageRunner(self._runtime, self._managers, self._options)

    async def drain(self) -> None:
        """End the open streams that clients can continue elsewhere; what runs goes on running."""
        self._listening.drain()
        if "_runner" in vars(self):
            await self._runner.drain()

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
        self._policy.check(host=request.headers.get("host", ""), origin=request.headers.get("origin"))
        match request.method:
            case "POST":
                await self._post(request, send)
            case "GET":
                self._listening.check(request)
                await self._listening.serve(request, send, await self._session(request))
            case "DELETE":
                await self._delete(request, send)
            case "OPTIONS":
                await respond(send, 204, b"", [(b"allow", self._listening.allowed_methods)])
            case _:
                allowed = [(b"allow", self._listening.allowed_methods)]
                raise HttpProblem(405, "Method Not Allowed", headers=allowed)

    async def _post(self, request: Request, send: Send) -> None:
        _check_post_headers(request)
        message = parse(await request.body(limit_bytes=self._options.max_body_bytes))
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
        else:
            await self._accept(request, send, session, [message])

    async def _accept(
        self, request: Request, send: Send, session: LoadedSession, messages: list[Json]
    ) -> None:
        """Take what needs no answer: 202 once it is safe with whom it concerns, then the handlers."""
        for message in messages:
            await self._forward(session, message)
        await respond(send, 202, b"", session.headers)
        for message in messages:
            if "method" in message:
                await self._runner.notify(request.scope, session, message)

    async def _forward(self, session: LoadedSession, message: Json) -> None:
        """Bring what concerns a running request to its inbox, wherever it runs."""
        streams, params = self._managers.streams, message.get("params") or {}
        match message.get("method"):
            case None:
                inbox = inbox_of_question(session.id, message.get("id"))
                if inbox is not None:
                    await streams.deliver(inbox, dump(message).decode())
            case "notifications/progress":
                inbox = inbox_of_question(session.id, params.get("progressToken"))
                if inbox is not None:
                    await streams.deliver(inbox, dump(message).decode())
            case "notifications/cancelled":
                if type(params.get("requestId")) in (str, int):
                    # The request may be younger than its inbox: the mailbox is made where there is none.
                    inbox = inbox_of(session.id, request_name(params["requestId"]))
                    await streams.send([inbox], dump(message).decode())
            case "notifications/initialized":
                await self._managers.info.mark_initialized(session.id)
            case _:
                pass

    async def _batch(self, request: Request, send: Send, messages: list[Any]) -> None:
        session = await self._session(request)
        if session.record.protocol_version != BATCH_VERSION or not messages:
            wrong = "an empty batch" if not messages else f"batches exist at {BATCH_VERSION} only"
            raise HttpProblem(400, f"Validation error: {wrong}", code=INVALID_PARAMS)
        kinds = [kind_of(message) for message in messages]
        if any(message.get("method") == "initialize" for message in messages):
            raise HttpProblem(400, "Validation error: initialize must not be in a batch", code=INVALID_PARAMS)
        pairs = list(zip(messages, kinds, strict=True))
        requests = [message for message, kind in pairs if kind is Kind.REQUEST]
        others = [message for message, kind in pairs if kind is not Kind.REQUEST]
        if not requests:
            await self._accept(request, send, session, others)
            return
        for message in others:
            await self._forward(session, message)
            if "method" in message:
                await self._runner.notify(request.scope, session, message)
        await self._runner.answer_batch(request.scope, send, session, requests)

    async def _initialize(self, request: Request, send: Send, message: Json) -> None:
        """Make a session: durable before the answer, so that whoever gets the next request finds it."""
        known = "mcp-session-id" in request.headers
        id = (await self._session(request)).id if known else mint_session_id()
        principal = self._principal(request.scope)
        answer, record = await self._runner.initialize(request.scope, id, message, principal)
        headers = [(b"content-type", b"application/json")]
        if record is not None:
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
            wrong = f"Unsupported protocol version: {version[:32]} (supported: {supported})"
            raise HttpProblem(400, f"Bad Request: {wrong}")
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
