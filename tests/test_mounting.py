"""Applications that mount ours: the addresses that clients are told, the server's lifespan, and the guide."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from fastmcp import FastMCP
from fastmcp.server.auth import RemoteAuthProvider
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient
from tmcp_serverless import Handler, create_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tmcp_serverless.http import ASGIApp

GUIDE = Path(__file__).parents[1] / "docs" / "mounting.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
ENDPOINTS = [
    ["/api/mcp"],
    ["/api/mcp"],
    ["/api/mcp"],
    ["/mcp"],
    ["/api/mcp"],
    ["/orders/mcp", "/invoices/mcp"],
]
"""What the guide's blocks serve, in its order."""

ACCEPT = {"accept": "application/json, text/event-stream"}
BEARER = {"authorization": "Bearer secret"}
PARAMS = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "c", "version": "1"},
}
INITIALIZE: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": PARAMS}


class Tokens:
    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="c", scopes=[]) if token == "secret" else None


def mcpserver(resource: str, path: str = "/mcp") -> MCPServer:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl(resource + path),
        validate_token_resource=False,
    )
    return MCPServer("guarded", auth=auth, token_verifier=Tokens())


def fastmcp(resource: str, path: str = "/mcp") -> FastMCP[Any]:
    del path
    verifier = StaticTokenVerifier({"secret": {"client_id": "c", "scopes": []}})
    servers = [AnyHttpUrl("https://issuer.example")]
    return FastMCP("guarded", auth=RemoteAuthProvider(verifier, servers, resource))


KINDS = pytest.mark.parametrize("new_server", [mcpserver, fastmcp])


@asynccontextmanager
async def client_of(app: Any, *, root_path: str = "") -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://mcp.example", follow_redirects=True
    ) as client:
        yield client


def named(answer: httpx.Response) -> str:
    found = re.search(r'resource_metadata="([^"]+)"', answer.headers["www-authenticate"])
    assert answer.status_code == 401
    assert found is not None
    return found[1]


async def metadata_of(client: httpx.AsyncClient, address: str) -> Any:
    found = await client.get(urlsplit(address).path)
    assert found.status_code == 200
    return found.json()


@KINDS
@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_a_401_names_metadata_under_the_mount(new_server: Any, era: str) -> None:
    handler = create_handler(new_server("http://mcp.example/api"))
    async with client_of(Starlette(routes=[Mount("/api", handler.app)])) as client:
        answer = await client.post(
            "/api/mcp", json=INITIALIZE, headers={**ACCEPT, "mcp-protocol-version": era}
        )
        address = named(answer)
        assert address == "http://mcp.example/api/.well-known/oauth-protected-resource/api/mcp"
        assert (await metadata_of(client, address))["resource"] == "http://mcp.example/api/mcp"


@KINDS
async def test_a_401_of_http_sse_names_metadata_under_the_mount(new_server: Any) -> None:
    handler = create_handler(new_server("http://mcp.example/api"))
    async with client_of(Starlette(routes=[Mount("/api", handler.app)])) as client:
        address = named(await client.get("/api/sse"))
        assert (await metadata_of(client, address))["resource"] == "http://mcp.example/api/mcp"


@KINDS
async def test_mounts_in_mounts_and_names_that_are_quoted(new_server: Any) -> None:
    handler = create_handler(new_server("http://mcp.example/a%20b/c"))
    outer = Starlette(routes=[Mount("/a b", app=Starlette(routes=[Mount("/c", handler.app)]))])
    async with client_of(outer) as client:
        address = named(await client.post("/a%20b/c/mcp", json=INITIALIZE, headers=ACCEPT))
        assert address.startswith("http://mcp.example/a%20b/c/.well-known/")


@KINDS
async def test_a_401_names_metadata_at_the_root_where_they_are_served(new_server: Any) -> None:
    handler = create_handler(new_server("http://mcp.example/api"))
    outer = FastAPI(lifespan=handler.lifespan, routes=handler.well_known_routes())
    outer.mount("/api", handler.app)
    async with client_of(outer) as client:
        address = named(await client.post("/api/mcp", json=INITIALIZE, headers=ACCEPT))
        assert address == "http://mcp.example/.well-known/oauth-protected-resource/api/mcp"
        assert (await metadata_of(client, address))["resource"] == "http://mcp.example/api/mcp"
        welcome = await client.post("/api/mcp", json=INITIALIZE, headers={**ACCEPT, **BEARER})
        assert welcome.status_code == 200


@KINDS
@pytest.mark.parametrize("root", ["/api", "/api/"])
async def test_a_proxy_that_takes_a_prefix_off(new_server: Any, root: str) -> None:
    """`uvicorn --root-path`: the prefix stands before the path, in the scope."""
    app = create_handler(new_server("http://mcp.example/api")).app
    async with client_of(app, root_path=root) as client:
        address = named(await client.post("/api/mcp", json=INITIALIZE, headers=ACCEPT))
        assert address.startswith("http://mcp.example/api/.well-known/")
        assert (await metadata_of(client, address))["resource"] == "http://mcp.example/api/mcp"


@KINDS
async def test_a_resource_that_is_elsewhere_for_its_clients_stays_there(new_server: Any) -> None:
    app = create_handler(new_server("https://front.example")).app
    async with client_of(app, root_path="/Prod") as client:
        address = named(await client.post("/Prod/mcp", json=INITIALIZE, headers=ACCEPT))
    assert address == "https://front.example/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    "new_server",
    [lambda: MCPServer("x"), lambda: FastMCP[Any]("x"), lambda: mcpserver("http://mcp.example/mcp")],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_404_at_the_mount_says_where_the_endpoint_is(new_server: Any, method: str) -> None:
    handler = create_handler(new_server())
    async with client_of(Starlette(routes=[Mount("/mcp", handler.app)])) as client:
        answer = await client.request(method, "/mcp", headers=ACCEPT)
        assert answer.status_code == 404
        assert "the MCP endpoint is at /mcp/mcp" in answer.json()["error"]["message"]
        elsewhere = await client.request(method, "/mcp/other", headers=ACCEPT)
        assert elsewhere.status_code == 404
        assert "the MCP endpoint" not in elsewhere.text


async def test_a_servers_own_route_at_the_mount_answers() -> None:
    server: FastMCP[Any] = FastMCP("x")

    @server.custom_route("/", methods=["GET"])
    async def about(_: Any) -> Any:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse("about")

    async with client_of(Starlette(routes=[Mount("/mcp", create_handler(server).app)])) as client:
        assert (await client.get("/mcp")).text == "about"


@pytest.mark.parametrize("new_outer", [FastAPI, Starlette])
async def test_the_outer_lifespan_enters_and_leaves_the_servers(new_outer: Any) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[str]:
        events.append("entered")
        yield "state"
        events.append("left")

    handler = create_handler(MCPServer("x", lifespan=lifespan))
    outer = new_outer(lifespan=handler.lifespan)
    outer.mount("/api", handler.app)
    async with client_of(outer) as client:
        async with outer.router.lifespan_context(outer):
            assert events == ["entered"]
            assert (await client.post("/api/mcp", json=INITIALIZE, headers=ACCEPT)).status_code == 200
            assert events == ["entered"]
        assert events == ["entered", "left"]


async def test_a_lifespan_that_fails_fails_the_outer_one() -> None:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        raise RuntimeError("no key")
        yield

    handler = create_handler(MCPServer("x", lifespan=lifespan))
    with pytest.raises(RuntimeError, match="no key"):
        async with handler.lifespan(None):
            pass


async def test_the_endpoint_event_names_the_mount() -> None:
    handler = create_handler(MCPServer("x"))
    outer: ASGIApp = Starlette(routes=[Mount("/api", handler.app)])
    async with SseClient(outer, path="/api/sse") as client:
        await client.initialize()
        assert client.path.startswith("/api/message?session_id=")


async def test_the_modern_era_under_a_mount() -> None:
    handler: Handler = create_handler(MCPServer("x"))
    outer: ASGIApp = Starlette(routes=[Mount("/api", handler.app)])
    client = ModernClient(outer, scope={"path": "/api/mcp"})
    async with client.asking("tools/list") as listed:
        await listed.until(lambda: listed.body_ended)
        assert listed.status == 200


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_the_guide(number: int, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", database_url)
    module: dict[str, Any] = {"__name__": f"guide_{number}"}
    exec(compile(BLOCKS[number], f"{GUIDE.name} {number}", "exec", dont_inherit=True), module)  # noqa: S102
    app = module["app"]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(app))
        await stack.enter_async_context(app.router.lifespan_context(app))
        for endpoint in ENDPOINTS[number]:
            answer = await client.post(endpoint, json=INITIALIZE, headers={**ACCEPT, **BEARER})
            assert answer.status_code == 200
            assert answer.headers["mcp-session-id"]
        if "/version" in BLOCKS[number]:
            assert "1" in (await client.get("/version")).text


def test_the_guide_is_tried_whole() -> None:
    assert len(BLOCKS) == len(ENDPOINTS)
