"""The application under test: it says who serves, waits for files, and notes what happens to it.

Every wait is for a file, so that tests decide the order of things in processes that share nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.http import Receive, Scope, Send

served = 0
number = 42


def note(event: str) -> None:
    """Add a line to the file in `TRACE`, in one write, so that processes do not mix their lines."""
    if trace := os.environ.get("TRACE"):
        with Path(trace).open("ab", buffering=0) as file:
            file.write(f"{event}\n".encode())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    global served  # noqa: PLW0603 - what amnesia is about
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    served += 1
    query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
    await _ROUTES[scope["path"]](query, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an application whose lifespan does not start."""
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def _lifespan(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        note(event)
        await send({"type": f"lifespan.{event}.complete"})


async def _start(send: Send, content_type: bytes, status: int = 200) -> None:
    headers = [(b"content-type", content_type), (b"connection", b"keep-alive")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _who(query: dict[str, str], _receive: Receive, send: Send) -> None:
    body = {"pid": os.getpid(), "served": served, "env": {name: os.environ.get(name) for name in query}}
    await _start(send, b"application/json")
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _wait(query: dict[str, str], _receive: Receive, send: Send) -> None:
    note("enter")
    await _exists(query["file"])
    note("leave")
    await _start(send, b"text/plain")
    await send({"type": "http.response.body", "body": b"done"})


async def _stream(query: dict[str, str], receive: Receive, send: Send) -> None:
    """Send one event, and a second one when the file is there; or note that the client has gone."""
    await receive()
    await _start(send, b"text/event-stream")
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    gone = asyncio.create_task(_gone(receive))
    there = asyncio.create_task(_exists(query["file"]))
    try:
        await asyncio.wait({gone, there}, return_when=asyncio.FIRST_COMPLETED)
        if there.done():
            await send({"type": "http.response.body", "body": b"data: second\n\n"})
        else:
            note("disconnect")
    finally:
        gone.cancel()
        there.cancel()


async def _refuse(_query: dict[str, str], _receive: Receive, send: Send) -> None:
    """Answer without having read the body."""
    await _start(send, b"text/plain", 413)
    await send({"type": "http.response.body", "body": b"too long" * 1000})


async def _crash(_query: dict[str, str], _receive: Receive, _send: Send) -> None:
    sys.stderr.write("I am going down\n")
    os._exit(3)


async def _block(_query: dict[str, str], _receive: Receive, _send: Send) -> None:
    """Hold the event loop, so that nothing in this process reacts to anything."""
    note(f"blocked {os.getpid()}")
    time.sleep(60)  # noqa: ASYNC251 - that is the point


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _exists(path: str) -> None:
    while not Path(path).exists():  # noqa: ASYNC240 - a file has no event
        await asyncio.sleep(0.01)


_ROUTES: dict[str, Callable[[dict[str, str], Any, Any], Awaitable[None]]] = {
    "/": _who,
    "/wait": _wait,
    "/stream": _stream,
    "/refuse": _refuse,
    "/crash": _crash,
    "/block": _block,
}
