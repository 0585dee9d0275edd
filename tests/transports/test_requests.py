"""Requests that are unusual and legal, or plainly wrong: each has an answer, none ends in an exception."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.servers import small_server
from tmcp_serverless import ConfigurationError, Settings, create_handler
from tmcp_serverless.handshake.addresses import inbox_of, request_id_of, request_name
from tmcp_serverless.http import HttpProblem, Request, path_of
from tmcp_serverless.testing.contracts import RecordingController

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def with_routes() -> MCPServer:
    server = small_server()

    @server.custom_route("/about", methods=["GET"])
    async def about(_: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse("about")

    return server


def declaring(length: str) -> Request:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"12345"}

    return Request({"method": "POST", "headers": [(b"content-length", length.encode())]}, receive)


@pytest.mark.parametrize("length", ["6", "0006", "9" * 5000, "0" * 5000 + "6"])
async def test_a_body_that_is_declared_too_long_is_413_however_that_is_written(length: str) -> None:
    with pytest.raises(HttpProblem) as refused:
        await declaring(length).body(limit_bytes=5)
    assert refused.value.status == 413


@pytest.mark.parametrize("length", ["5", "0" * 5000 + "5", "", "-1", "5, 5", "five", "\u0663"])
async def test_what_else_is_declared_does_not_matter_for_a_body_is_counted(length: str) -> None:
    assert await declaring(length).body(limit_bytes=5) == b"12345"


@pytest.mark.parametrize(
    ("accept", "both"),
    [
        ("application/json;q=0, text/event-stream", (False, True)),
        ("application/json; Q = 0.000, */*", (False, True)),
        ("*/*;q=0", (False, False)),
        ("text/*;q=0, */*;q=0.1", (True, False)),
        ("text/event-stream, text/*;q=0, application/json;q=0.001", (True, True)),
        ("application/json;profile=x;q=0, application/json, text/event-stream", (True, True)),
        ("application/json, application/json;profile=x;q=0", (True, False)),
        ("APPLICATION/JSON;q=x;charset=utf-8 , ;, Text/Event-Stream;q=", (True, True)),
        ("", (False, False)),
    ],
)
async def test_what_a_client_does_not_accept_is_not_sent(accept: str, both: tuple[bool, bool]) -> None:
    async def receive() -> Any:
        raise AssertionError

    headers = [(b"accept", accept.encode())]
    assert Request({"method": "POST", "headers": headers}, receive).accepts() == both


async def test_an_accept_header_that_is_repeated_is_one_list(new_handler: NewHandler) -> None:
    client = await Client(new_handler(small_server()).app).initialize()
    exchange = client.send("POST", PING, accept=None)
    exchange._scope["headers"] += [(b"accept", b"application/json"), (b"accept", b"text/event-stream")]  # pyright: ignore[reportPrivateUsage]
    async with exchange:
        assert (await exchange.whole()).status == 200


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (b"content-type", b"text/plain"),
        (b"mcp-session-id", b"another"),
        (b"mcp-protocol-version", b"2025-06-18"),
    ],
)
async def test_another_header_may_be_repeated_with_one_value_only(
    new_handler: NewHandler, name: bytes, other: bytes
) -> None:
    client = await Client(new_handler(small_server()).app).initialize()
    for first in (False, True):
        for repeated, status in ((None, 200), (other, 400)):
            exchange = client.send("POST", PING)
            headers = exchange._scope["headers"]  # pyright: ignore[reportPrivateUsage]
            own = next(value for each, value in headers if each == name)
            headers.insert(0 if first else len(headers), (name, own if repeated is None else repeated))
            async with exchange:
                assert (await exchange.whole()).status == status


async def test_of_a_cancellation_nothing_is_kept_but_that_it_came(new_handler: NewHandler) -> None:
    handler = new_handler(small_server())
    client = await Client(handler.app).initialize()
    long = "x" * 100_000
    for id in ("never", long):
        cancelled = await client.notify("notifications/cancelled", {"requestId": id, "reason": long})
        assert cancelled.status == 202
        controller = RecordingController()
        inbox = inbox_of(client.session or "", request_name(id))
        await handler.managers.streams.create(inbox, controller)
        assert len((await controller.count(1))[0]) < 200


async def test_an_event_id_of_a_request_that_cannot_have_been_has_an_answer() -> None:
    client = await Client(create_handler(small_server()).app).initialize()
    assert request_id_of(request_name("\ud800")) is None
    async with client.listen(last_event_id=f"{request_name(chr(0xD800))}.000000000000:77.0") as stream:
        message = (await stream.whole()).messages[-1]
    assert (stream.status, message["id"], message["error"]["code"]) == (200, None, -32603)


@pytest.mark.parametrize("build", [small_server, with_routes])
@pytest.mark.parametrize("root", ["", "/stage", "/stage/", "/mcp"])
@pytest.mark.parametrize("path", ["/", "/mcp", "/mcp/", "/a/b"])
async def test_the_endpoint_is_where_it_was_configured_below_any_root(
    new_handler: NewHandler, build: Callable[[], MCPServer], root: str, path: str
) -> None:
    # A router of Starlette's knows no root path that ends with a slash.
    root = root.rstrip("/") if build is with_routes else root
    app, below = new_handler(build(), path=path).app, root.rstrip("/")
    at = below + path.rstrip("/")
    for asked in {at or "/", f"{at}/"}:
        client = await Client(app, scope={"root_path": root, "path": asked}).initialize()
        assert await client.result("ping") == {}
        modern = ModernClient(app, scope={"root_path": root, "path": asked})
        assert (await modern.ask("tools/list")).status == 200
    if build is with_routes:
        async with Client(app, scope={"root_path": root, "path": f"{below}/about"}).send("GET") as about:
            assert (await about.whole()).text == "about"


async def test_http_sse_is_beside_an_endpoint_that_is_the_root(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server(), path="/").app)
    for path in ("/sse", "/sse/"):
        client.path = path
        async with client.send("GET", accept="text/event-stream") as stream:
            await stream.until(lambda stream=stream: stream.endpoint is not None)
            assert (stream.endpoint or "").startswith("/message?")


@pytest.mark.parametrize("setting", ["path", "sse_path", "message_path"])
def test_a_path_that_is_none_is_refused_when_the_handler_is_made(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting}.*'mcp'"):
        create_handler(small_server(), settings=Settings.model_validate({setting: "mcp"}))


def test_a_path_is_inside_the_application() -> None:
    for root in ("", "/", "/a", "/a/"):
        assert path_of({"path": f"{root.rstrip('/')}/mcp", "root_path": root}) == "/mcp"
    assert path_of({"path": "/mcp/"}) == "/mcp"


async def test_a_query_changes_nothing(new_handler: NewHandler) -> None:
    client = await Client(new_handler(small_server()).app).initialize()
    client.path = "/mcp?key=x&y=%2F"
    assert await client.result("ping") == {}


async def test_head_is_405_and_options_says_what_there_is(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server()).app)
    for verb, status in (("HEAD", 405), ("OPTIONS", 204)):
        async with client.send(verb) as exchange:
            assert (await exchange.whole()).status == status
            assert exchange.headers["allow"] == "GET, POST, DELETE, OPTIONS"


async def test_a_websocket_is_closed(new_handler: NewHandler) -> None:
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[Any] = []
    received.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/mcp", "headers": [], "query_string": b"", "subprotocols": []}
    await new_handler(small_server()).app(scope, received.get, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_what_is_no_kind_of_connection_that_there_is_is_an_error(new_handler: NewHandler) -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(RuntimeError, match="'telepathy'"):
        await new_handler(small_server()).app({"type": "telepathy"}, nothing, nothing)
