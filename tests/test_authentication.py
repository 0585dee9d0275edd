"""A server's own authentication and routes are served as they are, around our transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tests.support.client import Client
from tests.support.sse_client import SseClient
from tests.support.users import two_users
from tmcp_serverless import (
    HttpSseTransport,
    HttpTransport,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
)
from tmcp_serverless.sdk.runtime import ServerRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler


def official() -> MCPServer:
    server = MCPServer("guarded", log_level="ERROR", **two_users())

    @server.custom_route("/about", methods=["GET"])
    async def about(_: Request) -> PlainTextResponse:
        return PlainTextResponse("about")

    return server


def fast() -> FastMCP[Any]:
    tokens: dict[str, dict[str, Any]] = {
        name: {"client_id": "app", "scopes": ["use"], "sub": name} for name in ("alice", "bob")
    }
    server: FastMCP[Any] = FastMCP("guarded", auth=StaticTokenVerifier(tokens, required_scopes=["use"]))

    @server.custom_route("/about", methods=["GET"])
    async def about(_: Request) -> PlainTextResponse:
        return PlainTextResponse("about")

    return server


@pytest.fixture(params=[official, fast], ids=["MCPServer", "FastMCP"])
def client(request: pytest.FixtureRequest, new_handler: NewHandler) -> Client:
    return Client(new_handler(request.param()).app, new_handler(request.param()).app)


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_without_a_token_nothing_is_served(client: Client) -> None:
    for headers in ({}, {"authorization": "Bearer mallory"}):
        for verb in ("POST", "GET", "DELETE"):
            async with client.send(verb, PING if verb == "POST" else None, **headers) as exchange:
                await exchange.whole()
            assert exchange.status == 401
            assert "www-authenticate" in exchange.headers


@pytest.mark.parametrize("server", [official, fast], ids=["MCPServer", "FastMCP"])
async def test_an_endpoint_that_is_the_root_is_behind_the_same_authentication(
    server: Any, new_handler: NewHandler
) -> None:
    client = Client(*(new_handler(server(), path="/").app for _ in range(2)))
    client.path = "/"
    assert (await client.post(PING)).status == 401
    client.always = {"authorization": "Bearer alice"}
    await client.initialize()
    assert await client.result("ping") == {}
    assert (await client.ask("ping", authorization="Bearer bob")).status == 404
    client.path = "/about"
    async with client.send("GET") as about:
        assert (await about.whole()).text == "about"


async def test_row_35_a_session_is_its_users_even_within_one_client(client: Client) -> None:
    client.always = {"authorization": "Bearer alice"}
    await client.initialize()
    assert await client.result("ping") == {}
    client.path = "/mcp/"
    assert await client.result("ping") == {}
    client.path = "/mcp"
    client.always = {"authorization": "Bearer bob"}
    assert (await client.ask("ping")).status == 404
    async with client.listen() as stream:
        assert (await stream.whole()).status == 404
    assert (await client.delete()).status == 404
    client.always = {"authorization": "Bearer alice"}
    assert (await client.delete()).status == 200


def in_memory() -> SessionManagers:
    return SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())


ALICE = {"authorization": "Bearer alice"}


@pytest.mark.parametrize("server", [official, fast], ids=["MCPServer", "FastMCP"])
@pytest.mark.parametrize("path", ["/mcp", "/"])
async def test_a_transport_by_itself_is_behind_the_servers_authentication_too(server: Any, path: str) -> None:
    client = Client(HttpTransport(server(), session_manager=in_memory(), path=path))
    for client.path in {path, f"{path.rstrip('/')}/"}:
        for verb in ("POST", "GET", "DELETE"):
            async with client.send(verb, PING if verb == "POST" else None) as refused:
                assert (await refused.whole()).status == 401
    client.always = ALICE
    for client.path in {path, f"{path.rstrip('/')}/"}:
        await client.initialize()
        assert await client.result("ping") == {}
        assert (await client.ask("ping", authorization="Bearer bob")).status == 404
    client.path = "/about"
    async with client.send("GET") as about:
        assert (await about.whole()).text == "about"
    async with client.send("GET", origin="https://evil.example") as foreign:
        assert (await foreign.whole()).text == "about"
    client.path = path
    assert (await client.post(PING, origin="https://evil.example")).status == 403


@pytest.mark.parametrize("server", [official, fast], ids=["MCPServer", "FastMCP"])
async def test_http_sse_by_itself_is_behind_the_servers_authentication_too(server: Any) -> None:
    client = SseClient(HttpSseTransport(server(), session_manager=in_memory()))
    for client.path, verb in (("/sse", "GET"), ("/sse/", "GET"), ("/message?session_id=x", "POST")):
        async with client.send(verb, PING if verb == "POST" else None) as refused:
            assert (await refused.whole()).status == 401
    client.path = "/sse"
    client.always = ALICE
    async with client:
        await client.initialize()
        assert await client.result("ping") == {}
        assert (await client.post(PING, authorization="Bearer bob")).status == 404
        assert (await client.post(PING, authorization=None)).status == 401


async def test_in_front_of_a_runtime_that_is_shared_is_what_its_owner_puts_there() -> None:
    client = Client(HttpTransport(ServerRuntime(official()), session_manager=in_memory()))
    await client.initialize()
    assert await client.result("ping") == {}


async def test_a_transport_by_itself_serves_http_and_nothing_else() -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    transport = HttpTransport(official(), session_manager=in_memory())
    with pytest.raises(RuntimeError, match="'lifespan'"):
        await transport({"type": "lifespan"}, nothing, nothing)


@pytest.mark.parametrize("server", [official, fast], ids=["MCPServer", "FastMCP"])
async def test_both_endpoints_of_http_sse_are_behind_the_same_authentication(
    server: Any, new_handler: NewHandler
) -> None:
    client = SseClient(*(new_handler(server()).app for _ in range(2)))
    for path, verb in (("/sse", "GET"), ("/sse/", "GET"), ("/message?session_id=x", "POST")):
        client.path = path
        for headers in ({}, {"authorization": "Bearer mallory"}):
            async with client.send(verb, PING, **headers) as refused:
                await refused.whole()
            assert refused.status == 401
            assert "www-authenticate" in refused.headers
    client.path = "/sse"
    client.always = {"authorization": "Bearer alice"}
    async with client:
        await client.initialize()
        assert await client.result("ping") == {}
        assert (await client.post(PING, authorization="Bearer bob")).status == 404
        assert (await client.post(PING, authorization=None)).status == 401
        own, client.path = client.path, "/about"
        async with client.send("GET") as about:
            assert (await about.whole()).text == "about"
        client.path = own
        assert await client.result("ping") == {}


async def test_a_route_of_the_servers_own_is_not_hidden_by_http_sse(new_handler: NewHandler) -> None:
    server = official()

    @server.custom_route("/message", methods=["POST"])
    async def message(_: Request) -> PlainTextResponse:
        return PlainTextResponse("a webhook")

    client = Client(new_handler(server).app)
    client.path = "/message"
    assert (await client.post({})).text == "a webhook"


@pytest.mark.parametrize("make", [lambda: MCPServer("open", log_level="ERROR"), lambda: FastMCP("open")])
async def test_http_sse_is_served_beside_the_routes_of_a_server_without_authentication(
    new_handler: NewHandler, make: Callable[[], Any]
) -> None:
    server = make()

    @server.custom_route("/about", methods=["GET"])
    async def about(_: Request) -> PlainTextResponse:
        return PlainTextResponse("about")

    client = SseClient(new_handler(server).app)
    client.path = "/sse"
    async with client:
        await client.initialize()
        assert await client.result("ping") == {}


async def test_routes_of_the_server_are_served_beside_it(client: Client) -> None:
    client.path = "/about"
    async with client.send("GET") as exchange:
        await exchange.whole()
    assert (exchange.status, exchange.text) == (200, "about")
