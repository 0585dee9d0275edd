"""A FastMCP's auth provider decides who comes in, in both eras and over HTTP+SSE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Context, FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair, StaticTokenVerifier
from fastmcp.server.dependencies import get_access_token
from fastmcp.server.elicitation import AcceptedElicitation
from pydantic import AnyHttpUrl

from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient, text_of
from tmcp_serverless import replayable

if TYPE_CHECKING:
    from fastmcp.server.auth import AuthProvider

    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import ASGIApp

ISSUER = "https://issuer.example"
AUDIENCE = "https://mcp.example/mcp"
WHOAMI: dict[str, Any] = {"name": "whoami", "arguments": {}}
YES = {"action": "accept", "content": {"value": True}}


class Door:
    """An auth provider, and the tokens that people come with."""

    def __init__(self, provider: AuthProvider, tokens: dict[str, str]) -> None:
        self.provider = provider
        self._tokens = tokens

    def bearer(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._tokens[name]}"}

    def refused(self) -> list[dict[str, str]]:
        """Return the headers of those who may not come in: a guest's token lacks the scope."""
        return [{}, self.bearer("stranger"), self.bearer("guest")]


def door_of_static_tokens() -> Door:
    people: dict[str, dict[str, Any]] = {
        "alice": {"client_id": "app", "scopes": ["use"], "sub": "alice"},
        "bob": {"client_id": "app", "scopes": ["use"], "sub": "bob"},
        "guest": {"client_id": "app", "scopes": [], "sub": "guest"},
    }
    tokens = {name: name for name in (*people, "stranger")}
    return Door(StaticTokenVerifier(people, required_scopes=["use"]), tokens)


def door_of_signed_tokens() -> Door:
    keys, others = RSAKeyPair.generate(), RSAKeyPair.generate()
    common: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE}
    tokens = {name: keys.create_token(name, scopes=["use"], **common) for name in ("alice", "bob")}
    tokens["guest"] = keys.create_token("guest", **common)
    tokens["stranger"] = others.create_token("alice", scopes=["use"], **common)
    verifier = JWTVerifier(
        public_key=keys.public_key, issuer=ISSUER, audience=AUDIENCE, required_scopes=["use"]
    )
    return Door(verifier, tokens)


@pytest.fixture(scope="module", params=[door_of_static_tokens, door_of_signed_tokens], ids=["static", "jwt"])
def door(request: pytest.FixtureRequest) -> Door:
    return request.param()


def guarded_server(door: Door) -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP("guarded", auth=door.provider)

    @server.tool
    async def whoami() -> str:
        token = get_access_token()
        assert token is not None
        return str(token.claims["sub"])

    @server.tool
    @replayable
    async def agree(ctx: Context) -> str:
        answer = await ctx.elicit("Really?", bool)
        return f"{await whoami()}: {answer.data}" if isinstance(answer, AcceptedElicitation) else "no"

    return server


@pytest.fixture
def apps(new_postgres_handler: NewHandler, door: Door) -> list[ASGIApp]:
    return [new_postgres_handler(guarded_server(door)).app for _ in range(2)]


async def test_a_modern_client_is_let_in_request_by_request(apps: list[ASGIApp], door: Door) -> None:
    client = ModernClient(*apps)
    for name in ("alice", "bob"):
        answered = await client.ask("tools/call", WHOAMI, **door.bearer(name))
        assert (answered.status, text_of(answered.messages[-1])) == (200, name)
    for method in ("tools/call", "server/discover", "subscriptions/listen"):
        for headers in door.refused():
            refused = await client.ask(method, WHOAMI, **headers)
            assert refused.status == 401
            assert "www-authenticate" in refused.headers


async def test_a_question_is_answered_by_who_was_asked(apps: list[ASGIApp], door: Door) -> None:
    client = ModernClient(*apps)
    call = {"name": "agree", "arguments": {}}
    asked = (await client.ask("tools/call", call, **door.bearer("alice"))).messages[-1]["result"]
    (key,) = asked["inputRequests"]
    again = {**call, "inputResponses": {key: YES}, "requestState": asked["requestState"]}
    refused = (await client.ask("tools/call", again, **door.bearer("bob"))).messages[-1]
    assert refused["error"]["message"] == "Invalid or expired requestState"
    answered = await client.ask("tools/call", again, **door.bearer("alice"))
    assert text_of(answered.messages[-1]) == "alice: True"


async def test_a_session_of_the_handshake_era_is_its_users(apps: list[ASGIApp], door: Door) -> None:
    client = Client(*apps)
    client.always = door.bearer("alice")
    await client.initialize()
    for _ in apps:
        assert await client.call("whoami") == "alice"
    client.always = door.bearer("bob")
    assert (await client.ask("tools/call", WHOAMI)).status == 404
    for headers in door.refused():
        client.always = headers
        assert (await client.ask("tools/call", WHOAMI)).status == 401


async def test_a_session_over_http_sse_is_its_users(apps: list[ASGIApp], door: Door) -> None:
    client = SseClient(*apps)
    for headers in door.refused():
        async with client.send("GET", **headers) as refused:
            assert (await refused.whole()).status == 401
    client.always = door.bearer("alice")
    async with client:
        await client.initialize()
        for _ in apps:
            assert text_of(await client.answer("tools/call", WHOAMI)) == "alice"
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await client.post(ping, **door.bearer("bob"))).status == 404
        assert (await client.post(ping, authorization=None)).status == 401


async def test_what_a_provider_serves_beside_the_endpoint_is_found(new_postgres_handler: NewHandler) -> None:
    provider = RemoteAuthProvider(
        token_verifier=StaticTokenVerifier({}),
        authorization_servers=[AnyHttpUrl(ISSUER)],
        base_url="https://mcp.example",
    )
    client = Client(new_postgres_handler(FastMCP[Any]("guarded", auth=provider)).app)
    refused = await client.ask("ping")
    assert refused.status == 401
    path = "/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="https://mcp.example{path}"' in refused.headers["www-authenticate"]
    client.path = path
    async with client.send("GET") as exchange:
        (metadata,) = (await exchange.whole()).messages
    assert (metadata["resource"], metadata["authorization_servers"]) == (AUDIENCE, [f"{ISSUER}/"])
