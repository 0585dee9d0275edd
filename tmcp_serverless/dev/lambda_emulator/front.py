"""The front door: an ASGI application that makes an event of every request, and passes the answer on."""

from __future__ import annotations

import base64
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

from tmcp_serverless.dev.lambda_emulator.sandbox import InitializationError, ThrottledError
from tmcp_serverless.http import HttpProblem, OriginPolicy, respond

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tmcp_serverless.dev.lambda_emulator.invocation import Failure, Invocation
    from tmcp_serverless.http import Headers, Receive, Scope, Send

__all__ = ["INVOKE_PATH", "Front"]

INVOKE_PATH = "/2015-03-31/functions/function/invocations"
"""A POST to this path passes its body on as the event, as with AWS's own emulator."""

_DELIMITER = bytes(8)
_JSON: Headers = [(b"content-type", b"application/json")]

Invoke: TypeAlias = "Callable[[bytes], Awaitable[Invocation]]"
NewEvent: TypeAlias = "Callable[[Scope, bytes], dict[str, Any]]"


class Front:
    """Passes requests to a function, by way of `invoke`, as the events that `new_event` makes of them.

    The function refuses unwanted pages, but does not learn that a connection ends at a loopback address. So a
    page is refused here if its own name was made to lead there (DNS rebinding), unless the function is
    `told_of_hosts`: its permitted hosts or origins are configured. Pages may not send raw events at all.
    """

    def __init__(self, invoke: Invoke, new_event: NewEvent, *, told_of_hosts: bool = False) -> None:
        self._invoke = invoke
        self._new_event = new_event
        self._told_of_hosts = told_of_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        body = await _whole_body(receive)
        raw = scope["path"] == INVOKE_PATH and scope["method"] == "POST"
        try:
            if raw or (not self._told_of_hosts and _is_own_origin(scope)):
                OriginPolicy().check_scope(scope)
        except HttpProblem as problem:
            await problem.answer(send)
            return
        event = body if raw else json.dumps(self._new_event(scope, body)).encode()
        try:
            invocation = await self._invoke(event)
        except ThrottledError as error:
            message = {"Reason": "ConcurrentInvocationLimitExceeded", "message": str(error)}
            await respond(send, 429, json.dumps(message).encode(), _JSON)
        except InitializationError as error:
            await _fail(send, error.failure)
        else:
            try:
                await (self._answer_raw if raw else self._answer)(invocation, send)
            finally:
                invocation.abandon()  # a client that has left is no news to the function

    async def _answer_raw(self, invocation: Invocation, send: Send) -> None:
        body = await invocation.whole()
        if invocation.failure is None:
            await respond(send, 200, body, [*_JSON, *_who(invocation)])
        else:
            marked = [*_JSON, *_who(invocation), (b"x-amz-function-error", b"Unhandled")]
            await respond(send, 200, invocation.failure.body, marked)

    async def _answer(self, invocation: Invocation, send: Send) -> None:
        await invocation.begun()
        async with aclosing(invocation.chunks()) as chunks:
            if invocation.streamed:
                started = await _pass_on(chunks, send, _who(invocation))
            else:
                whole = b"".join([chunk async for chunk in chunks])
                started = invocation.failure is None
                if started:
                    await _answer_whole(whole, send, _who(invocation))
        if not started and invocation.failure is not None:
            await _fail(send, invocation.failure)
        elif invocation.streamed and invocation.failure is None:
            await send({"type": "http.response.body", "body": b""})
        # Otherwise the answer has begun and has no end: the connection is cut when we return.


def _is_own_origin(scope: Scope) -> bool:
    """Return `True` if the request comes from no page, or from a page with the name that it asks for."""
    try:
        OriginPolicy().check_scope({**scope, "server": None})
    except HttpProblem:
        return False
    return True


async def _pass_on(chunks: AsyncGenerator[bytes], send: Send, extra: Headers) -> bool:
    """Pass a streamed answer on as it comes; return `True` if its head was there."""
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        prelude, delimiter, rest = head.partition(_DELIMITER)
        if delimiter:
            start = json.loads(prelude)
            headers = [*_encoded(start), *extra]
            await send({"type": "http.response.start", "status": start["statusCode"], "headers": headers})
            await send({"type": "http.response.body", "body": bytes(rest), "more_body": True})
            break
    else:
        return False
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    return True


async def _answer_whole(whole: bytes, send: Send, extra: Headers) -> None:
    """Answer with a result that is JSON: a response if it has a status, else the body of a response."""
    result = json.loads(whole or b"null")
    if not isinstance(result, dict) or "statusCode" not in result:
        await respond(send, 200, whole, [*_JSON, *extra])
        return
    body = result.get("body") or ""
    data = base64.b64decode(body) if result.get("isBase64Encoded") else body.encode()
    await respond(send, result["statusCode"], data, [*_encoded(result), *extra])


async def _fail(send: Send, failure: Failure) -> None:
    """Answer as a Function URL does. The header has the failure's type; Lambda's own says less."""
    headers = [*_JSON, (b"x-amzn-errortype", failure.type.encode())]
    await respond(send, 502, b'{"Message":"Internal Server Error"}', headers)


def _encoded(start: dict[str, Any]) -> Headers:
    headers = [(name.encode(), str(value).encode()) for name, value in (start.get("headers") or {}).items()]
    return headers + [(b"set-cookie", cookie.encode()) for cookie in start.get("cookies") or ()]


def _who(invocation: Invocation) -> Headers:
    return [(b"x-amzn-requestid", invocation.id.encode()), (b"x-tmcp-instance", invocation.sandbox.encode())]


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
