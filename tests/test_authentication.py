"""A server's own authentication and routes are served as they are, around our transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tests.support.client import Client

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler


class Tokens:
    """Two users, each with a token of the same name."""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token not in ("alice", "bob"):
            return None
        claims = {"iss": "https://issuer.example", "sub": token}
        return AccessToken(token=token, client_id="app", scopes=["use"], claims=claims, subject=token)


def official() -> MCPServer:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("https://mcp.example/mcp"),
        required_scopes=["use"],
        validate_token_resource=False,
    )
    server = MCPServer("guarded", token_verifier=Tokens(), auth=auth, log_level="ERROR")

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


async def test_routes_of_the_server_are_served_beside_it(client: Client) -> None:
    client.path = "/about"
    async with client.send("GET") as exchange:
        await exchange.whole()
    assert (exchange.status, exchange.text) == (200, "about")
