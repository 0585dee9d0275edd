"""`initialize` and what happens beside it: its session is deleted, or what follows the answer fails."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer

from tests.support.client import Client, initialize_message
from tests.support.servers import small_server
from tests.support.sse_client import SseClient
from tmcp_serverless import (
    ConfigurationError,
    HttpSseTransport,
    HttpTransport,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SchemaError,
    SessionManagers,
    SessionNotFoundError,
    StoreUnavailableError,
)
from tmcp_serverless.http import respond
from tmcp_serverless.sdk import connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.support.fixtures import NewHandler
    from tmcp_serverless import SessionRecord
    from tmcp_serverless.http import ASGIApp, Message, Receive, Request, Scope, Send

INITIALIZE: dict[str, Any] = {**initialize_message(), "id": 1}


def initializing(**params: Any) -> dict[str, Any]:
    return {**INITIALIZE, "params": {**INITIALIZE["params"], **params}}


class Cold:
    """A server that starts when it is let."""

    def __init__(self) -> None:
        self.starting = asyncio.Event()
        self.go_on = asyncio.Event()

    def server(self) -> MCPServer:
        @asynccontextmanager
        async def lifespan(_: MCPServer) -> AsyncGenerator[dict[str, Any]]:
            self.starting.set()
            await self.go_on.wait()
            yield {}

        return MCPServer("cold", lifespan=lifespan, log_level="ERROR")


class Heads:
    """Counts the answers that an application begins, of one request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.begun.append(message["status"])
            await send(message)

        await self._app(scope, receive, noting)


async def test_a_session_that_is_deleted_while_it_is_initialized_again_stays_deleted(
    new_handler: NewHandler,
) -> None:
    cold, handler = Cold(), new_handler(small_server())
    warm = await Client(handler.app).initialize()
    other = Client(new_handler(cold.server()).app)
    other.session = warm.session
    async with other.send("POST", INITIALIZE) as again:
        await cold.starting.wait()
        assert (await warm.delete()).status == 200
        cold.go_on.set()
        assert (await again.whole()).status == 404
    assert (await warm.ask("ping")).status == 404
    assert await handler.managers.streams.append(warm.session or "", "{}", create=False) is None, (
        "it has no mailbox"
    )


async def test_a_session_that_is_initialized_again_is_what_was_settled_last(new_handler: NewHandler) -> None:
    client = await Client(*(new_handler(small_server()).app for _ in range(2))).initialize()
    await client.result("logging/setLevel", {"level": "error"})
    await client.result("resources/subscribe", {"uri": "note://one"})
    again = await client.post(initializing(capabilities={"roots": {}}))
    assert again.headers["mcp-session-id"] == client.session
    info = new_handler(small_server()).managers.info
    record = await info.load(client.session or "")
    assert record is not None
    assert (record.client_info["name"], record.client_capabilities) == ("by hand", {"roots": {}})
    assert (record.initialized, record.log_level) == (False, "error")
    assert await info.get_subscriptions("note://one") == {client.session}


async def test_a_session_of_http_sse_that_ends_while_it_is_initialized_stays_ended(
    new_handler: NewHandler,
) -> None:
    cold, handler = Cold(), new_handler(small_server())
    async with SseClient(handler.app, new_handler(cold.server()).app) as client:
        async with client.send("POST", INITIALIZE) as posted:
            await cold.starting.wait()
            client.stream.leave()
            await client.stream.whole()
            cold.go_on.set()
            await posted.whole()
        assert await handler.managers.info.load(client.id) is None


@pytest.mark.parametrize(
    "params",
    [
        {"clientInfo": {"name": "x" * 66_000, "version": "1"}},
        {"capabilities": {"experimental": {f"{number:060}": {} for number in range(1_100)}}},
    ],
    ids=["info", "capabilities"],
)
async def test_what_a_client_says_of_itself_is_64_kib_at_the_most(
    new_handler: NewHandler, params: dict[str, Any]
) -> None:
    handler = new_handler(small_server())
    client = Client(handler.app)
    refused = await client.post(initializing(**params))
    assert "mcp-session-id" not in refused.headers
    assert refused.messages[0]["error"]["code"] == -32602
    assert "at most 65536 are accepted" in refused.messages[0]["error"]["message"]
    assert (await client.post(initializing(clientInfo={"name": "x" * 65_000, "version": ""}))).headers[
        "mcp-session-id"
    ]
    async with SseClient(handler.app) as older:
        answer = await older.answer("initialize", {**INITIALIZE["params"], **params})
        assert answer["error"] == refused.messages[0]["error"]
        await older.initialize()
        assert await older.result("ping") == {}


async def test_what_a_client_says_of_itself_is_read_once_for_all_of_a_batch(
    new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await Client(new_handler(small_server()).app, version="2025-03-26").initialize()
    read: list[SessionRecord] = []
    read_params = connection.client_params

    def noted(record: SessionRecord, *, can_send_requests: bool) -> Any:
        read.append(record)
        return read_params(record, can_send_requests=can_send_requests)

    monkeypatch.setattr(connection, "client_params", noted)
    exchange = await client.post([{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(10)])
    assert len(exchange.messages) == 10
    assert len(read) == 1


ERRORS = [
    (ConfigurationError("not allowed"), logging.WARNING),
    (SchemaError("too old"), logging.WARNING),
    (StoreUnavailableError("away"), logging.DEBUG),
    (RuntimeError("a bug"), logging.ERROR),
]


@pytest.mark.parametrize(("error", "level"), ERRORS)
async def test_a_sweep_that_fails_leaves_the_answer_to_initialize_alone(
    caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    class Failing(InMemoryInfoSessionManager):
        async def sweep(self, *, limit: int = 100) -> int:
            raise error from ValueError(limit)

    caplog.set_level(logging.DEBUG, logger="tmcp_serverless")
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=Failing())
    heads = Heads(HttpTransport(small_server(), session_manager=managers))
    answered = await Client(heads).post(INITIALIZE)
    assert (answered.status, heads.begun) == (200, [200])
    async with SseClient(HttpSseTransport(small_server(), session_manager=managers)) as client:
        await client.initialize()
        assert await client.result("ping") == {}
    logged = [record for record in caplog.records if record.message.startswith("nothing was swept")]
    assert [record.levelno for record in logged] == [level, level]


@pytest.mark.parametrize("error", [*(error for error, _ in ERRORS[:3]), SessionNotFoundError("gone")])
async def test_what_goes_wrong_after_an_answer_has_begun_begins_no_other(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    class Late(HttpTransport):
        async def _serve(self, request: Request, send: Send) -> None:
            await respond(send, 200, request.method.encode())
            raise error

    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    heads = Heads(Late(small_server(), session_manager=managers))
    answered = await Client(heads).post(INITIALIZE)
    assert (answered.text, heads.begun) == ("POST", [200])
    assert repr(error) in caplog.text
