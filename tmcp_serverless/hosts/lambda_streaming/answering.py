"""The answer to one invocation: the application answers HTTP requests, the user's function any other event.

A streamed answer is a frame: one JSON object with status, headers and cookies, eight NUL bytes, then the body
as it comes. (docs.aws.amazon.com/apigateway: "Lambda proxy integration format for response streaming";
Function URLs take the same)
"""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tmcp_serverless.hosts.deadline import ANSWER_SECONDS, TimeIsOverError
from tmcp_serverless.hosts.lambda_events import front_door_of
from tmcp_serverless.hosts.lambda_streaming.context import LambdaContext
from tmcp_serverless.hosts.lambda_streaming.faults import FAILURES, Fault, is_own_end, words_of
from tmcp_serverless.hosts.lambda_streaming.marshalling import marshal, unmarshal
from tmcp_serverless.http import PLATFORM_EXTENSION, Platform
from tmcp_serverless.logs import loggable_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tmcp_serverless.hosts.deadline import DeadlineRunner
    from tmcp_serverless.hosts.lambda_events import FrontDoor
    from tmcp_serverless.hosts.lambda_streaming.loading import LambdaHandler
    from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation, RuntimeApi, StreamedBody
    from tmcp_serverless.http import Message, Scope

__all__ = ["StreamedResponse", "answer", "prelude"]

logger = logging.getLogger(__name__)

_DELIMITER = bytes(8)
_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"}
"""Headers that the front door sets: it chooses the framing."""

_OVER = Fault("Runtime.TimeIsOver", "The request was cancelled shortly before its deadline")
_INCOMPLETE = Fault("Runtime.IncompleteAnswer", "The application returned without ending its answer")


async def answer(
    invocation: Invocation, handler: LambdaHandler, api: RuntimeApi, runner: DeadlineRunner
) -> None:
    """Answer the invocation. Its request has ended then, or the runner has logged it and left it behind.

    Raises:
        OSError: The answer did not arrive.
    """
    result, content_type = b"", "application/json"
    try:
        context = LambdaContext(invocation)
        event = unmarshal(invocation.event)
        front_door = front_door_of(event)
        scope = _scope(front_door, invocation, context)
        if scope is None:
            result, content_type = marshal(await _whole(event, front_door, context, handler, runner))
    except FAILURES as error:
        if is_own_end(error):
            raise
        logger.exception("an event could not be handled")
        await api.fail(invocation.id, Fault.of(error))
        return
    if front_door is None or scope is None:
        await api.succeed(invocation.id, result, content_type)
    else:
        response = StreamedResponse(api, invocation.id, front_door)
        await _stream(invocation, scope, handler, response, runner)


def _scope(front_door: FrontDoor | None, invocation: Invocation, context: LambdaContext) -> Scope | None:
    """Return the ASGI scope of a request if its answer is streamed; `None` for any other event."""
    if front_door is None or not front_door.streams:
        return None
    return {
        **front_door.scope,
        "extensions": {PLATFORM_EXTENSION: Platform(streams=True, deadline=invocation.deadline)},
        "aws.event": front_door.event,
        "aws.context": context,
    }


async def _whole(
    event: Any,
    front_door: FrontDoor | None,
    context: LambdaContext,
    handler: LambdaHandler,
    runner: DeadlineRunner,
) -> Any:
    if front_door is None:
        return await handler.handle_event(event, context)
    from tmcp_serverless.hosts.lambda_buffered import answer_whole  # imports Mangum

    return await answer_whole(handler.app, event, context, runner)


async def _stream(
    invocation: Invocation,
    scope: Scope,
    handler: LambdaHandler,
    response: StreamedResponse,
    runner: DeadlineRunner,
) -> None:
    name = f"{scope['method']} {loggable_path(scope)}"
    # A client that does not read can block anything that is sent, the end of the answer included.
    cut = asyncio.get_running_loop().call_at(invocation.deadline - ANSWER_SECONDS, response.abort)
    try:
        request = handler.app(scope, response.receive, response.send)
        await runner.run(request, deadline=invocation.deadline, name=name)
    except FAILURES as error:
        if is_own_end(error):
            raise
        if response.lost:
            raise ConnectionAbortedError(words_of(error)) from error
        if isinstance(error, TimeIsOverError):
            logger.error("%s", error)  # noqa: TRY400 - where it was cancelled says nothing
            await response.fail(_OVER, status=504)
        else:
            logger.exception("%s failed", name)
            await response.fail(Fault.of(error))
    else:
        if response.lost:
            raise ConnectionAbortedError(
                "the Runtime API closed the answer before the application finished it"
            )
        await response.fail(_INCOMPLETE)
    finally:
        cut.cancel()
        response.abort()


class StreamedResponse:
    """The ASGI side of one invocation: its `receive` and its `send`.

    Args:
        api: The API that takes the answer.
        id: The invocation.
        request: The request; `receive` returns its body.
    """

    def __init__(self, api: RuntimeApi, id: str, request: FrontDoor) -> None:
        self._api = api
        self._id = id
        self._request: FrontDoor | None = request
        self._start: Message | None = None
        self._stream: StreamedBody | None = None
        self._over = asyncio.Event()
        self._failed = False
        self.complete = False
        """True if the whole answer was sent."""

    @property
    def lost(self) -> bool:
        """True if the answer ended before it was complete: nothing more of it arrives."""
        return self._over.is_set() and not self.complete

    async def receive(self) -> Message:
        """Return the request, and after it nothing until the answer is over.

        Lambda does not report that a client has disconnected.
        """
        request, self._request = self._request, None
        if request is not None:
            return {"type": "http.request", "body": request.body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send an ASGI message. The head leaves with the first piece of the body.

        Raises:
            OSError: The answer does not arrive any more.
        """
        if self._failed:
            raise ConnectionResetError("this answer was ended, for its time was over or it had failed")
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None and not self.complete:
            if self.lost:
                raise ConnectionResetError("the Runtime API takes nothing more of this answer")
            await self._send_body(message.get("body", b""), last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is not expected now")

    async def fail(self, fault: Fault, *, status: int = 500) -> None:
        """End an answer that the application has not ended: with the status, or in trailers if it has begun.

        Does nothing if the answer is complete, or does not arrive. The application can send nothing more.
        """
        self._failed = True
        if self._over.is_set():
            return
        if self._stream is None:
            self._start = {"status": status, "headers": [(b"content-type", b"text/plain; charset=utf-8")]}
            await self._send_body(HTTPStatus(status).phrase.encode(), last=True)
            return
        self._over.set()
        await self._finish(self._stream, fault.trailers())

    def abort(self) -> None:
        """End an answer at once. An answer that has begun is cut off."""
        if self._stream is not None and not self.complete:
            self._stream.close()
        self._over.set()

    async def _send_body(self, data: bytes, *, last: bool) -> None:
        try:
            if self._stream is None:
                assert self._start is not None  # noqa: S101 - every caller has looked
                # A head that cannot be written is an error before anything of the answer has left.
                data = prelude(self._start) + data
                self._stream = await self._api.stream(self._id)
            if data:
                await self._stream.write(data)
            if last:
                await self._finish(self._stream)
                self.complete = True
                self._over.set()
        except OSError:
            self._over.set()
            raise

    async def _finish(self, stream: StreamedBody, trailers: Sequence[tuple[str, str]] = ()) -> None:
        answer = await stream.finish(trailers)
        if answer.status >= 300:  # noqa: PLR2004 - no success
            raise ConnectionAbortedError(f"the Runtime API answered {answer.status}: {answer.body!r}")


def prelude(start: Message) -> bytes:
    """Return the head of an answer, up to the beginning of its body."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw_value in start.get("headers", ()):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif name not in _OF_THE_CONNECTION:
            # A repeated header is one list (RFC 9110, section 5.3).
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    head: dict[str, Any] = {"statusCode": start["status"], "headers": headers, "cookies": cookies}
    return json.dumps(head, separators=(",", ":")).encode() + _DELIMITER
