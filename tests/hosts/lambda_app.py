"""The function under test: an application that does what tests need, and a function for other events.

It notes what happens to it in the file named by `TRACE`, one line each. Run in sandboxes, or in the test's
own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmcp_serverless.http import platform_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.http import Message, Receive, Scope, Send

ticks = 0
loops: set[int] = set()


def note(event: str) -> None:
    if trace := os.environ.get("TRACE"):
        with Path(trace).open("ab", buffering=0) as file:
            file.write(f"{event}\n".encode())


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise AttributeError("no response")


class Handler:
    """What `tmcp_serverless.Handler` is to the loop."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        loops.add(id(asyncio.get_running_loop()))
        path: str = scope["path"].removeprefix(scope["root_path"])
        await _ROUTES["/" + path.split("/")[1]](scope, receive, send)

    async def handle_event(self, event: Any, context: Any) -> Any:
        if event == {"block": True}:
            time.sleep(600)  # noqa: ASYNC251 - nothing but the kernel ends it
        if event == {"unprintable": True}:
            raise UnprintableError
        if event == {"raise": True}:
            raise ValueError("so it was asked")
        if event == {"unwritable": True}:
            return {1, 2}
        if event == {"cancelled": True}:
            note("cancelled")
            await _cancelled_task()
        if event == {"cancels itself": True}:
            _cancel_own_task()
            await asyncio.sleep(600)
        if isinstance(event, dict) and "named" in event:
            raise type(event["named"], (Exception,), {})(event["named"])
        return {"event": event, "id": context.aws_request_id, "left": context.get_remaining_time_in_millis()}

    async def drain(self) -> None:
        note("drain")

    async def aclose(self) -> None:
        note("close")


handler = Handler()
text = "no handler"


def buffered_handler(event: Any, context: Any) -> Any:
    """The same, answered whole, on AWS's own runtime."""
    from tmcp_serverless.hosts.lambda_buffered import buffered

    return buffered(handler.app, handler.handle_event)(event, context)


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"]
    headers = [
        (b"Content-Type", b"text/plain"),
        (b"Set-Cookie", b"one=1; Path=/"),
        (b"set-cookie", b"two=2"),
        (b"x-list", b"a"),
        (b"x-list", b"b"),
        (b"x-trace", os.environ.get("_X_AMZN_TRACE_ID", "").encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
    ]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    del scope


async def _empty(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 202})
    await send({"type": "http.response.body"})


async def _path(scope: Scope, _receive: Receive, send: Send) -> None:
    await _text(send, f"{scope['path']} {scope['raw_path'].decode()}")


async def _host(scope: Scope, _receive: Receive, send: Send) -> None:
    host = platform_of(scope)
    left = None if host.deadline is None else host.deadline - time.monotonic()
    await _text(send, f"{host.streams} {left:.2f} {scope['aws.context'].function_name} {len(loops)} {ticks}")


async def _tick(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Start what counts on after the answer."""

    async def count() -> None:
        global ticks  # noqa: PLW0603 - the point is what lasts between invocations
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    Handler.counting = asyncio.create_task(count())  # type: ignore[attr-defined]
    await _text(send, "ticking")


async def _stream(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send the parts of the body that lines are, each when the file that it names is there."""
    lines = (await receive())["body"].decode().split()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for line in lines:
        while not Path(line).exists():  # noqa: ASYNC240 - a file has no event
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": f"{line}\n".encode(), "more_body": True})
    await send({"type": "http.response.body"})


async def _after(_scope: Scope, receive: Receive, send: Send) -> None:
    """Work on when the answer is complete: until the file is there that the body names."""
    path = (await receive())["body"].decode()
    await _text(send, "done")
    assert (await receive())["type"] == "http.disconnect"
    while not Path(path).exists():  # noqa: ASYNC240 - the same
        await asyncio.sleep(0.005)
    note("after")


async def _early(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError("before the answer")


async def _unprintable(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise UnprintableError


async def _unprintable_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    raise UnprintableError


async def _started(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    raise ValueError("before the body")


async def _late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    raise ValueError("in the answer")


async def _cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(600))
    task.cancel()
    await task


def _cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def _cancelled(_scope: Scope, _receive: Receive, _send: Send) -> None:
    note("cancelled")
    await _cancelled_task()


async def _cancelled_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    note("cancelled")
    await _cancelled_task()


async def _cancels_itself(_scope: Scope, _receive: Receive, _send: Send) -> None:
    note("cancelled")
    _cancel_own_task()
    await asyncio.sleep(600)


async def _deep(_scope: Scope, receive: Receive, send: Send) -> None:
    """Fail in the answer, under many frames, with the message that the body is."""

    def fail(depth: int) -> None:
        if depth:
            fail(depth - 1)
        raise ValueError(message)

    message = (await receive())["body"].decode()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    fail(80)


async def _text_headers(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Send headers that are not bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": [("content-type", "text/plain")]})
    await send({"type": "http.response.body", "body": b"one"})


async def _too_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _text(send, "whole")
    raise ValueError("after the answer")


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Return without an answer."""


async def _half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})


async def _twice(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _text(send, "once")
    await _text(send, "twice")


async def _hang(_scope: Scope, _receive: Receive, send: Send) -> None:
    try:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
        await asyncio.sleep(600)
    finally:
        note("cancelled")


async def _shrugs(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Go on where nothing arrives."""
    with contextlib.suppress(OSError):
        await _text(send, "anything")


async def _silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.sleep(600)


async def _stubborn(_scope: Scope, receive: Receive, send: Send) -> None:
    """Do not end when cancelled, but when the file is there that the body names."""
    path = Path((await receive())["body"].decode())
    while not path.exists():  # noqa: ASYNC240 - a file has no event
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.005)
    try:
        await _text(send, "too late")
    except OSError:
        note("nothing arrives")
    else:
        note("ended")


async def _stubborn_late(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, in an answer that has begun."""

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send(message)

    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    await _stubborn(scope, receive, send_more)


async def _insists(scope: Scope, receive: Receive, send: Send) -> None:
    """Send as many megabytes as the body says, and when cancelled as many again, shielded."""
    size = await receive()

    async def again() -> Message:
        return size

    async def last_word() -> None:
        for _ in range(int(size["body"])):
            await send({"type": "http.response.body", "body": b"x" * 1_048_576, "more_body": True})

    try:
        await _large(scope, again, send)
    except asyncio.CancelledError:
        await asyncio.shield(last_word())
        raise


async def _block(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Hold the event loop, so that nothing but the kernel ends it."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one\n", "more_body": True})
    time.sleep(600)  # noqa: ASYNC251 - that is the point


async def _crash(_scope: Scope, _receive: Receive, _send: Send) -> None:
    os._exit(3)


async def _large(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send as many megabytes as the body says."""
    count = int((await receive())["body"])
    await send({"type": "http.response.start", "status": 200})
    for number in range(count):
        note(f"megabyte {number}")
        await send({"type": "http.response.body", "body": b"x" * 1_048_576, "more_body": True})
    await send({"type": "http.response.body"})


async def _text(send: Send, text: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


_ROUTES: dict[str, Callable[[Any, Any, Any], Awaitable[None]]] = {
    "/after": _after,
    "/block": _block,
    "/cancelled": _cancelled,
    "/cancelled-late": _cancelled_late,
    "/cancels-itself": _cancels_itself,
    "/crash": _crash,
    "/deep": _deep,
    "/early": _early,
    "/echo": _echo,
    "/empty": _empty,
    "/half": _half,
    "/hang": _hang,
    "/host": _host,
    "/insists": _insists,
    "/large": _large,
    "/late": _late,
    "/nothing": _nothing,
    "/shrugs": _shrugs,
    "/path": _path,
    "/silent": _silent,
    "/started": _started,
    "/stream": _stream,
    "/stubborn": _stubborn,
    "/stubborn-late": _stubborn_late,
    "/text-headers": _text_headers,
    "/tick": _tick,
    "/too-late": _too_late,
    "/twice": _twice,
    "/unprintable": _unprintable,
    "/unprintable-late": _unprintable_late,
}
