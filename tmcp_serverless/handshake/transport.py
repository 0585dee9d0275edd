"""Request handling that both transports of the handshake era share, for any form of the answer."""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import (
    ConfigurationError,
    LimitReachedError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from tmcp_serverless.handshake.addresses import (
    inbox_of,
    inbox_of_question,
    request_name,
    same_id_as_other_type,
)
from tmcp_serverless.handshake.inbox import cancellation
from tmcp_serverless.http import (
    BATCH_VERSION,
    HANDSHAKE_VERSIONS,
    INVALID_PARAMS,
    Entrance,
    HttpProblem,
    Kind,
    OriginPolicy,
    Request,
    as_routed,
    classify,
    dump,
    refusal_of,
)
from tmcp_serverless.sdk.runtime import ServerRuntime
from tmcp_serverless.sessions import ANONYMOUS
from tmcp_serverless.tracebacks import log_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from tmcp_serverless.handshake.post_response import PostResponse
    from tmcp_serverless.handshake.runner import MessageRunner
    from tmcp_serverless.handshake.session import LoadedSession
    from tmcp_serverless.http import ASGIApp, HttpOptions, Message, Receive, Scope, Send
    from tmcp_serverless.sessions import Json, SessionManagers

__all__ = ["HandshakeTransport", "check_content_type", "check_version", "split_batch"]

logger = logging.getLogger(__name__)

_SWEPT_ROWS = 10
_MOST_INBOXES = 64
"""The most inboxes of a session up to which a cancellation that comes early makes another one."""

_LIMIT_RETRY_SECONDS = b"5"


class HandshakeTransport:
    """Base class of the transports, for the parts that clients do not see: caller, session and execution.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`; or a `ServerRuntime` to share.
        session_manager: The managers of sessions and their streams.
        paths: The paths that it answers at.
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
        paths: tuple[str, ...],
        principal: Callable[[Scope], str] | None,
        policy: OriginPolicy | None,
        options: HttpOptions,
    ) -> None:
        self.paths = tuple(path.rstrip("/") for path in paths)
        """Paths that the transport answers at."""

        self._options = options
        self._is_shared = isinstance(server, ServerRuntime)
        self._server = (
            server
            if isinstance(server, ServerRuntime)
            else ServerRuntime(server, answer_session_methods=options.answer_session_methods)
        )
        self._managers = session_manager
        self._principal = principal or _principal
        self._policy = policy or OriginPolicy()
        self._open_responses: set[PostResponse] = set()

    @cached_property
    def _runner(self) -> MessageRunner:
        from tmcp_serverless.handshake.runner import (  # it imports mcp, which GET,
            MessageRunner,  # DELETE and replies do without
        )

        return MessageRunner(self._server, self._managers, self._options, self._open_responses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request.

        Raises:
            RuntimeError: The scope is of another kind, such as `lifespan`: the server's lifespan is entered
                by the first request.

        """
        if scope["type"] != "http":
            raise RuntimeError(f"nothing is served over {scope['type']!r} here")
        await self._entrance(scope, receive, send)

    @cached_property
    def _entrance(self) -> ASGIApp:
        """`answer` behind the policy, and behind the server's own authentication unless that is shared."""
        entrance = partial(Entrance, policy=self._policy, paths=self.paths)
        if self._is_shared:
            return entrance(self.answer)
        first, *others = (path or "/" for path in self.paths)
        guarded = self._server.guarded(self.answer, path=first, extra_paths=others, entrance=entrance)

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            await guarded(as_routed(scope, self.paths), receive, send)

        return routed

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request after the check of its `Host` and `Origin`.

        An error before the response has begun is answered.
        """
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._serve(Request(scope, receive), noting)
        except (
            HttpProblem,
            SessionNotFoundError,
            LimitReachedError,
            StoreUnavailableError,
            ConfigurationError,
        ) as error:
            if begun:
                # A second head would break the connection, and the client would lose the data that it has.
                logger.error("after the answer had begun: %r", error)  # noqa: TRY400 - it says what to do
            else:
                await _refusal(error).answer(send)

    async def _serve(self, request: Request, send: Send) -> None:
        """Serve one HTTP request. An exception before the response has begun becomes the response."""
        raise NotImplementedError

    async def _forward(self, session: LoadedSession, message: Json) -> None:
        """Deliver a message that concerns a running request to its inbox, on any instance."""
        streams, params = self._managers.streams, message.get("params") or {}
        match message.get("method"):
            case None:
                inbox = inbox_of_question(session.id, message.get("id"))
                if inbox is not None:
                    await streams.append(inbox, dump(message).decode(), create=False)
            case "notifications/progress":
                inbox = inbox_of_question(session.id, params.get("progressToken"))
                if inbox is not None:
                    await streams.append(inbox, dump(message).decode(), create=False)
            case "notifications/cancelled":
                if type(params.get("requestId")) in (str, int):
                    await self._forward_cancellation(session, params["requestId"])
            case "notifications/initialized":
                await self._managers.info.update(session.id, initialized=True)
            case _:
                pass

    async def _forward_cancellation(self, session: LoadedSession, request_id: str | int) -> None:
        ids = [request_id]
        # Some clients send "7" for 7. The two still have inboxes of their own: they may run at once, and a
        # server request of one is not answered to the other.
        if (other := same_id_as_other_type(request_id)) is not None:
            ids.append(other)
        inboxes = [inbox_of(session.id, request_name(id)) for id in ids]
        # The cancellation may come before the inbox exists. The mailbox is made then, but not any number.
        for inbox in inboxes:
            await self._managers.streams.append(inbox, dump(cancellation()).decode(), siblings=_MOST_INBOXES)

    async def _notify(self, request: Request, session: LoadedSession, messages: list[Json]) -> None:
        """Run the handlers of the notifications among the messages. Their errors are logged."""
        for message in messages:
            if message is not messages[0]:
                await asyncio.sleep(0)
            if "method" in message:
                try:
                    await self._runner.notify(request.scope, session, message)
                except StoreUnavailableError as error:
                    logger.warning("the handler for %r was not run: %s", message["method"], error)
                except Exception as error:  # noqa: BLE001 - a notification has no answer
                    log_failure(logger, "the handler for %r was not run", message["method"], error=error)

    async def _sweep(self, principal: str) -> None:
        """Delete a few expired rows, and the user's sessions beyond their number, after the answer."""
        try:
            if principal != ANONYMOUS:
                for id in await self._managers.info.surplus(principal, keep=self._options.max_sessions):
                    await self._managers.info.delete(id)
                    await self._managers.streams.delete(id)
            await self._managers.info.sweep(limit=_SWEPT_ROWS)
            await self._managers.streams.sweep(limit=_SWEPT_ROWS)
        except StoreUnavailableError as error:
            logger.debug("nothing was swept: %s", error)
        except ConfigurationError as error:
            logger.warning("nothing was swept: %s", error)
        except Exception:
            logger.exception("nothing was swept")


def check_content_type(request: Request) -> None:
    """Accept a POST of JSON.

    Raises:
        HttpProblem: 400 for anything else.

    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HttpProblem(400, "Invalid Content-Type header")


def check_version(request: Request) -> None:
    """Accept a request that names a revision of the handshake era, or none.

    Raises:
        HttpProblem: 400 for any other.

    """
    version = request.headers.get("mcp-protocol-version")
    if version is not None and version not in HANDSHAKE_VERSIONS:
        supported = ", ".join(HANDSHAKE_VERSIONS)
        wrong = f"Unsupported protocol version: {version[:32]} (supported: {supported})"
        raise HttpProblem(400, f"Bad Request: {wrong}")


def split_batch(session: LoadedSession, messages: list[Any]) -> tuple[list[Json], list[Json]]:
    """Return the requests of a batch, and its other messages.

    Raises:
        HttpProblem: 400 if the session's revision has no batches, or this is not a valid one.

    """
    if session.record.protocol_version != BATCH_VERSION or not messages:
        wrong = "an empty batch" if not messages else f"batches exist at {BATCH_VERSION} only"
        raise HttpProblem(400, f"Validation error: {wrong}", code=INVALID_PARAMS)
    classified = [classify(message) for message in messages]
    if any(message.get("method") == "initialize" for _, message in classified):
        raise HttpProblem(400, "Validation error: initialize must not be in a batch", code=INVALID_PARAMS)
    requests = [message for kind, message in classified if kind is Kind.REQUEST]
    return requests, [message for kind, message in classified if kind is not Kind.REQUEST]


def _refusal(
    error: HttpProblem
    | SessionNotFoundError
    | LimitReachedError
    | StoreUnavailableError
    | ConfigurationError,
) -> HttpProblem:
    """Return the response to a request that raised this."""
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, SessionNotFoundError):
        return HttpProblem(404, "Session not found")
    if isinstance(error, LimitReachedError):
        headers = [(b"retry-after", _LIMIT_RETRY_SECONDS)]
        return HttpProblem(429, f"Too Many Requests: {error}", headers=headers)
    level = logging.ERROR if isinstance(error, ConfigurationError) else logging.WARNING
    logger.log(level, "answered 503: %s", error)
    return refusal_of(error)


def _principal(scope: Scope) -> str:
    if "user" not in scope:
        return ANONYMOUS
    from tmcp_serverless.sdk.connection import principal_of  # without authentication nothing needs mcp

    return principal_of(scope)
