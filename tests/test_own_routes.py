"""A server's own routes, and the scope that tools see, are as on the SDK's and FastMCP's applications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.dependencies import get_http_request
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import Context, MCPServer
from starlette.responses import JSONResponse

from tests.differential.wire import lifespan
from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient, text_of
from tests.support.users import two_users
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from tests.support.fixtures import NewHandler

BASE = "https://mcp.example"
PAGES = ({}, {"origin": "https://dash.example.net"}, {"origin": "null"}, {"origin": BASE})
ALICE = {"authorization": "Bearer alice"}


class _Provider:
    """An authorization server that has one client: enough for its routes to be there."""

    async def get_client(self, client_id: str) -> None:
        del client_id

    async def load_access_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="c", scopes=[]) if token == "alice" else None


def official_oauth() -> MCPServer:
    auth = AuthSettings(
        issuer_url=f"{BASE}/",  # type: ignore[arg-type]
        resource_server_url=f"{BASE}/mcp",  # type: ignore[arg-type]
        client_registration_options=ClientRegistrationOptions(enabled=True),
    )
    server = MCPServer("oauth", log_level="CRITICAL", auth=auth, auth_server_provider=_Provider())  # type: ignore[arg-type]
    _add_hook(server)
    return server


def fast_oauth() -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP(
        "oauth",
        auth=OAuthProxy(
            upstream_authorization_endpoint="https://upstream.example/authorize",
            upstream_token_endpoint="https://upstream.example/token",
            upstream_client_id="id",
            upstream_client_secret="s" * 32,
            token_verifier=StaticTokenVerifier({"alice": {"client_id": "c", "scopes": []}}),
            base_url=BASE,
            jwt_signing_key="k" * 32,
        ),
    )
    _add_hook(server)
    return server


def own_app(server: Any) -> Any:
    """Return the application that serves it without the kit."""
    return server.http_app() if isinstance(server, FastMCP) else server.streamable_http_app(host="0.0.0.0")


def _add_hook(server: Any) -> None:
    async def hook(request: Request) -> JSONResponse:
        return JSONResponse({"origin": request.headers.get("origin")}, headers={"x-own": "1"})

    server.custom_route("/hook", methods=["GET", "POST"])(hook)


ROUTES = [
    ("GET", "/.well-known/oauth-protected-resource/mcp"),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("OPTIONS", "/.well-known/oauth-authorization-server"),
    ("OPTIONS", "/token"),
    ("POST", "/token"),
    ("OPTIONS", "/register"),
    ("POST", "/register"),
    ("GET", "/authorize"),
    ("POST", "/authorize"),
    ("GET", "/consent"),
    ("POST", "/consent"),
    ("GET", "/hook"),
    ("POST", "/hook"),
    ("OPTIONS", "/hook"),
    ("GET", "/nothing-here"),
    ("POST", "/mcp/below"),
]


async def _seen(app: Any, method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return the status and the headers that a browser decides by."""
    if method == "OPTIONS" and "origin" in headers:
        headers = headers | {"access-control-request-method": "POST"}
        headers |= {"access-control-request-headers": "content-type"}
    body = b"{}" if method == "POST" else None
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        answer = await client.request(method, path, headers=headers, content=body)
    kept = ("access-control-", "allow", "vary", "location", "x-own", "www-authenticate", "content-type")
    return {"status": answer.status_code} | {
        name: value for name, value in sorted(answer.headers.items()) if name.startswith(kept)
    }


@pytest.mark.parametrize("page", PAGES, ids=["no page", "another origin", "null", "its own origin"])
@pytest.mark.parametrize("build", [official_oauth, fast_oauth], ids=["MCPServer", "FastMCP"])
async def test_own_routes_answer_pages_as_without_the_kit(
    build: Callable[[], Any], page: dict[str, str]
) -> None:
    reference, handler = own_app(build()), create_handler(build(), database_url=None)
    for method, path in ROUTES:
        expected = await _seen(reference, method, path, page)
        assert await _seen(handler.app, method, path, page) == expected, (method, path)
    await handler.aclose()


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse", "/message", "/message?session_id=x"])
@pytest.mark.parametrize("build", [official_oauth, fast_oauth], ids=["MCPServer", "FastMCP"])
async def test_pages_of_other_origins_are_refused_at_the_endpoints(
    build: Callable[[], Any], path: str
) -> None:
    """The rule of basic/transports is asked before the authentication: a page learns nothing."""
    handler = create_handler(build(), database_url=None)
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        seen = await _seen(handler.app, method, path, {"origin": "https://dash.example.net"} | ALICE)
        assert seen["status"] == 403, (method, seen)
        assert not any(name.startswith("access-control-allow-origin") for name in seen)
    await handler.aclose()


def _facts(request: Any) -> str:
    """Return what a tool finds in its request's scope, but for the objects themselves."""
    scope = request.scope
    user = scope.get("user")
    return json.dumps(
        {
            "app": type(request.app).__name__,
            "app knows the server": hasattr(request.app.state, "fastmcp_server"),
            "routes": sorted(getattr(route, "path", "") for route in request.app.routes)[:1],
            "url_path_for": hasattr(request, "url_for"),
            "router": type(scope["router"]).__name__,
            "endpoint": "endpoint" in scope,
            "path_params": request.path_params,
            "path": scope["path"],
            "root_path": scope.get("root_path"),
            "user": getattr(user, "username", None),
            "auth": "auth" in scope,
            "method": request.method,
        },
        sort_keys=True,
    )


def official(*, auth: bool, route: bool) -> MCPServer:
    server = MCPServer("scope", log_level="CRITICAL", **(two_users() if auth else {}))

    @server.tool()
    async def facts(ctx: Context[Any, Any]) -> str:
        return _facts(ctx.request_context.request)

    if route:
        _add_hook(server)
    return server


def fast(*, auth: bool, route: bool) -> FastMCP[Any]:
    verifier = StaticTokenVerifier({"alice": {"client_id": "app", "scopes": []}}) if auth else None
    server: FastMCP[Any] = FastMCP("scope", auth=verifier)

    @server.tool
    async def facts(ctx: FastContext) -> str:
        del ctx
        return _facts(get_http_request())

    if route:
        _add_hook(server)
    return server


@pytest.mark.parametrize("auth", [False, True], ids=["open", "with auth"])
@pytest.mark.parametrize("route", [False, True], ids=["no routes", "with routes"])
@pytest.mark.parametrize("build", [official, fast], ids=["MCPServer", "FastMCP"])
async def test_a_tool_sees_the_scope_of_the_servers_own_application(
    build: Callable[..., Any],
    *,
    auth: bool,
    route: bool,
    new_handler: NewHandler,
) -> None:
    headers = ALICE if auth else {}
    reference = own_app(build(auth=auth, route=route))
    async with lifespan(reference):
        expected = await _told(Client(reference), headers)
        modern_expected = await _told_modern(ModernClient(reference), headers)
    apps = [new_handler(build(auth=auth, route=route)).app for _ in range(2)]
    assert await _told(Client(*apps), headers) == expected
    assert await _told_modern(ModernClient(*apps), headers) == modern_expected
    sse = SseClient(*apps)
    sse.always = headers
    async with sse:
        await sse.initialize()
        told = json.loads(text_of(await sse.answer("tools/call", {"name": "facts", "arguments": {}})))
    assert {**told, "path": "/mcp"} == {**json.loads(expected), "root_path": told["root_path"]}


async def _told(client: Client, headers: dict[str, str]) -> str:
    client.always = headers
    await client.initialize()
    return await client.call("facts")


async def _told_modern(client: ModernClient, headers: dict[str, str]) -> str:
    exchange = await client.ask("tools/call", {"name": "facts", "arguments": {}}, **headers)
    return exchange.messages[-1]["result"]["content"][0]["text"]
