"""The server's side of the Runtime API and the Extensions API, for one sandbox: h11 over asyncio's streams.

An ASGI server would not do: the runtime puts the reason for an early end of a streamed answer in a request's
trailers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import h11

from tmcp_serverless.dev.lambda_emulator.invocation import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tmcp_serverless.dev.lambda_emulator.invocation import Invocation

__all__ = ["Runtime", "RuntimeServer"]

_READ_BYTES = 65_536
_HEAD_BYTES = 1_048_576
"""The longest head of a request."""

_TRAILER_BYTES = 4_096
"""The longest trailers, as they are written. Lambda's own Runtime API ends if they are longer."""

_ANSWER = re.compile(r"/2018-06-01/runtime/invocation/([^/]+)/(response|error)")
_ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"


class Runtime(Protocol):
    """Receiver of the requests that a sandbox's process makes."""

    @property
    def current(self) -> Invocation | None:
        """The invocation that the process has to answer."""

    async def next(self) -> Invocation:
        """Wait until there is an invocation, and return it."""
        raise NotImplementedError

    def initialization_failed(self, failure: Failure) -> None:
        """Note that the process cannot serve."""

    def extension_registered(self) -> None:
        """Note that the process wants SIGTERM."""


class RuntimeServer:
    """Listens on a port of its own, for as long as the context lasts."""

    def __init__(self, runtime: Runtime, *, handler: str) -> None:
        self._runtime = runtime
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return `HOST:PORT`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs connections in tasks
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, h11.ProtocolError):
                connection = _Connection(reader, writer)
                while (request := await connection.request()) is not None:
                    await self._answer(connection, request)
        except asyncio.CancelledError:
            return  # it is `aclose` that cancels
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, connection: _Connection, request: h11.Request) -> None:
        path = request.target.decode("latin-1")
        if match := _ANSWER.fullmatch(path):
            await self._take(connection, request, *match.groups())
            return
        match request.method, path:
            case b"GET", "/2018-06-01/runtime/invocation/next":
                await self._hand_over(connection)
            case b"POST", "/2018-06-01/runtime/init/error":
                type = _headers(request).get(_ERROR_TYPE, "Runtime.Unknown")
                self._runtime.initialization_failed(Failure(type, await connection.body()))
                await connection.answer(202, b'{"status":"OK"}')
            case b"POST", "/2020-01-01/extension/register":
                await self._register(connection)
            case b"GET", "/2020-01-01/extension/event/next":
                await asyncio.get_running_loop().create_future()  # there is none, until the process ends
            case _:
                await connection.body()
                await connection.answer(404, b'{"errorType":"InvalidRequest"}')

    async def _hand_over(self, connection: _Connection) -> None:
        await connection.body()
        invocation = await self._runtime.next()
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:local:000000000000:function:function",
            "Lambda-Runtime-Trace-Id": f"Root=1-{invocation.id[:8]}-{invocation.id.replace('-', '')[8:]}",
        }
        await connection.answer(200, invocation.event, headers)

    async def _take(self, connection: _Connection, request: h11.Request, id: str, kind: str) -> None:
        invocation = self._runtime.current
        if invocation is None or invocation.id != id or invocation.ended:
            await connection.body()
            await connection.answer(400, b'{"errorType":"InvalidRequestID"}')
            return
        headers = _headers(request)
        if kind == "error":
            invocation.end(Failure(headers.get(_ERROR_TYPE, "Function.Unknown"), await connection.body()))
        else:
            invocation.begin(headers)
            try:
                invocation.end(await connection.pass_on(invocation))
            except OSError:
                invocation.end(Failure.of("Runtime.TruncatedResponse", "The answer was cut off"))
                raise
        await connection.answer(202, b'{"status":"OK"}')

    async def _register(self, connection: _Connection) -> None:
        await connection.body()
        self._runtime.extension_registered()
        about = {"functionName": "function", "functionVersion": "$LATEST", "handler": self._handler}
        identifier = {"Lambda-Extension-Identifier": str(uuid.uuid4())}
        await connection.answer(200, json.dumps(about).encode(), identifier)


class _Connection:
    """One connection: request after request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)

    async def request(self) -> h11.Request | None:
        """Return the next request's head; `None` if no more comes."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> bytes:
        """Return the request's whole body."""
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        return bytes(body)

    async def pass_on(self, invocation: Invocation) -> Failure | None:
        """Write the body to the invocation as it comes; return the failure that its trailers report."""
        while isinstance(event := await self._event(), h11.Data):
            await invocation.write(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError("the body has no end")
        if sum(len(name) + len(value) + len(": \r\n") for name, value in event.headers) > _TRAILER_BYTES:
            raise ConnectionResetError("the trailers are too long")
        trailers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        if _ERROR_TYPE not in trailers:
            return None
        return Failure(trailers[_ERROR_TYPE], base64.b64decode(trailers.get(_ERROR_BODY, "")))

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer the request."""
        all_headers = {**(headers or {}), "Content-Length": str(len(body))}
        head = h11.Response(
            status_code=status, headers=list(all_headers.items()), reason=HTTPStatus(status).phrase
        )
        sent = [self._http.send(event) for event in (head, h11.Data(body), h11.EndOfMessage())]
        self._writer.write(b"".join(data for data in sent if data))
        await self._writer.drain()

    async def _event(self) -> object:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
        except h11.RemoteProtocolError as error:
            raise ConnectionResetError(f"the request is broken: {error}") from error
        return event


def _headers(request: h11.Request) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in request.headers}
