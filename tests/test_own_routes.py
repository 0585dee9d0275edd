"""A server's other routes keep their own rules about origins, and a tool sees the scope that it knows."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import fastmcp
import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.dependencies import get_http_request
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent
from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.differential.wire import Exchange, lifespan
from tests.support.client import Client
from tests.support.modern import ModernClient
from tests.support.sse_client import SseClient, text_of
from tests.support.users import two_users
from tmcp_serverless import (
    HttpSseTransport,
    HttpTransport,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
    create_handler,
)
from tmcp_serverless.http import OriginPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import ASGIApp, Scope

EVIL = "https://evil.example"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
TOKENS: dict[str, dict[str, Any]] = {"alice": {"client_id": "app", "scopes": ["use"], "sub": "alice"}}
PATHS = (
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
    *("/register", "/token", "/authorize", "/consent", "/about", "/files/a", "/sse", "/nothing"),
)


def with_routes(server: Any) -> Any:
    @server.custom_route("/about", methods=["GET", "POST", "OPTIONS"])
    async def about(_: Request) -> JSONResponse:
        return JSONResponse({"ok": True}, headers={"access-control-allow-origin": "*"})

    @server.custom_route("/files/{name}", methods=["GET"])
    async def file(_: Request) -> JSONResponse:
        return JSONResponse({"ok": True})

    @server.custom_route("/sse", methods=["GET"])
    async def own_sse(_: Request) -> JSONResponse:
        return JSONResponse({"own": True})

    return server


def official() -> Any:
    return with_routes(MCPServer("own", log_level="ERROR", **two_users()))


def proxied() -> Any:
    auth = OAuthProxy(
        upstream_authorization_endpoint="https://upstream.example/authorize",
        upstream_token_endpoint="https://upstream.example/token",
        upstream_client_id="id",
        upstream_client_secret="s" * 32,
        token_verifier=StaticTokenVerifier(TOKENS),
        base_url="http://127.0.0.1:8000",
        jwt_signing_key="k" * 32,
    )
    return with_routes(FastMCP("own", auth=auth))


async def seen(app: ASGIApp, verb: str, path: str, headers: dict[str, str], body: bytes) -> Any:
    """Return the status, and all that a browser goes by."""
    sent = {"host": "127.0.0.1:8000", **headers}
    async with Exchange(app, verb, headers=sent, body=body, path=path) as exchange:
        await exchange.whole()
    cors = {name: value for name, value in exchange.headers.items() if name.startswith("access-control-")}
    return exchange.status, cors, exchange.headers.get("allow"), exchange.headers.get("content-type")


async def test_every_other_route_is_the_servers_own(new_handler: NewHandler) -> None:
    pages = [
        {},
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": EVIL, "host": "evil.example"},
        {"host": "evil.example"},
        {"origin": EVIL, "access-control-request-method": "POST", "access-control-request-headers": "x-a"},
    ]
    for make, own in ((official, official().streamable_http_app()), (proxied, proxied().http_app())):
        app = new_handler(make()).app
        for path in PATHS:
            for verb in ("GET", "POST", "OPTIONS"):
                for page in pages:
                    body = b"{}" if verb == "POST" else b""
                    expected = await seen(own, verb, path, page, body)
                    assert await seen(app, verb, path, page, body) == expected, (verb, path, page)


@pytest.mark.parametrize("make", [official, proxied])
async def test_the_endpoint_and_http_sse_refuse_foreign_pages_all_the_same(
    make: Callable[[], Any], new_handler: NewHandler
) -> None:
    app = new_handler(make(), sse_path="/events").app
    for path in ("/mcp", "/mcp/", "/events", "/events/", "/message", "/message/"):
        for verb in ("GET", "POST", "OPTIONS", "DELETE"):
            for page in (
                {"origin": EVIL},
                {"origin": "null"},
                {"origin": EVIL, "authorization": "Bearer alice"},
            ):
                status, cors, *_ = await seen(app, verb, path, page, b"")
                assert (status, cors) == (403, {}), (verb, path, page)
    preflight = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    status, cors, *_ = await seen(app, "OPTIONS", "/mcp", preflight, b"")
    assert (status, cors["access-control-allow-origin"]) == (200, "*"), "without a token"
    status, cors, *_ = await seen(app, "POST", "/mcp", {"origin": "http://localhost:3000"}, b"")
    assert (status, cors["access-control-allow-origin"]) == (401, "*")


async def test_host_and_origin_are_checked_once(
    new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = OriginPolicy.check_scope

    def counting(policy: OriginPolicy, scope: Scope) -> str | None:
        checked.append(scope["path"])
        return check(policy, scope)

    monkeypatch.setattr(OriginPolicy, "check_scope", counting)
    app = new_handler(MCPServer("plain")).app
    await Client(app).post(PING)
    await ModernClient(app).ask("tools/list")
    async with SseClient(app):
        pass
    assert checked == ["/mcp", "/mcp", "/sse"]


def in_memory() -> SessionManagers:
    return SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())


@pytest.mark.parametrize("server", [official, lambda: MCPServer("plain"), lambda: Server("low")])
async def test_a_transport_by_itself_refuses_foreign_pages(server: Callable[[], Any]) -> None:
    for transport, paths in (
        (HttpTransport(server(), session_manager=in_memory()), ("/mcp", "/mcp/")),
        (HttpSseTransport(server(), session_manager=in_memory(), path="/events"), ("/events", "/message")),
    ):
        for path in paths:
            for verb in ("GET", "POST", "OPTIONS"):
                assert (await seen(transport, verb, path, {"origin": EVIL}, b""))[0] == 403


# The scope of a tool


def told(scope: Scope) -> str:
    """Return what a handler can go by, in a form that can be compared."""
    request = Request(scope)
    names = (
        "path",
        "root_path",
        "path_params",
        "query_string",
        "method",
        "scheme",
        "type",
        "server",
        "client",
    )
    compared = {name: repr(scope.get(name)) for name in names}
    endpoint, route = scope.get("endpoint"), scope.get("route")
    compared |= {
        "keys": sorted(scope.keys() - {"extensions", "state", "tmcp_serverless.platform"}),
        "app": type(scope.get("app")).__name__,
        "same router": scope["router"] is scope["app"].router,
        "route": getattr(route, "path", None),
        "endpoint": type(endpoint).__name__,
        "routes": sorted(
            str(getattr(each, "path", None)) for each in request.app.routes if each is not route
        ),
        "url": str(request.url),
        "user": type(scope.get("user")).__name__,
        "auth": getattr(scope.get("auth"), "scopes", None),
        "state": sorted(vars(request.app.state).get("_state", {})),
    }
    request.state.mark = 1
    return json.dumps(compared)


def mcpserver(**auth: Any) -> Any:
    server = MCPServer("seen", log_level="ERROR", **auth)

    @server.tool()
    async def scope(ctx: Context) -> str:
        assert ctx.request_context.request is not None
        return told(ctx.request_context.request.scope)

    return server


def fast(**auth: Any) -> Any:
    verifier = StaticTokenVerifier(TOKENS) if auth else None
    server: FastMCP[Any] = FastMCP("seen", auth=verifier)

    @server.tool
    async def scope(ctx: FastContext) -> str:
        del ctx
        return told(get_http_request().scope)

    return server


def lowlevel(**_: Any) -> Any:
    async def call(ctx: Any, _: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(text=told(ctx.request.scope))])

    return Server("seen", on_call_tool=call)


def own_app_of(server: Any) -> Any:
    return server.http_app() if isinstance(server, FastMCP) else server.streamable_http_app()


COMBINATIONS = [
    (build, auth, routes)
    for build in (mcpserver, fast, lowlevel)
    for auth in (False, True)
    for routes in (False, True)
    if build is not lowlevel or not (auth or routes)
]


@pytest.mark.parametrize(("build", "auth", "routes"), COMBINATIONS)
async def test_a_tool_sees_the_scope_that_it_sees_in_the_sdk(
    build: Callable[..., Any], *, auth: bool, routes: bool
) -> None:
    def new() -> Any:
        server = build(**(two_users() if auth else {}))
        if routes:

            @server.custom_route("/about", methods=["GET"])
            async def about(_: Request) -> JSONResponse:
                return JSONResponse({})

        return server

    theirs = own_app_of(new())
    async with AsyncExitStack() as stack:
        handler = await stack.enter_async_context(create_handler(new(), session_manager=in_memory()))
        await stack.enter_async_context(lifespan(theirs))
        scopes: list[list[Any]] = []
        bearer = {"authorization": "Bearer alice"} if auth else {}
        for app in (theirs, handler.app):
            client = Client(app)
            client.always = bearer
            await client.initialize()
            modern = await ModernClient(app).ask("tools/call", {"name": "scope", "arguments": {}}, **bearer)
            scopes.append(
                [
                    await client.call("scope"),
                    modern.messages[-1]["result"]["content"][0]["text"],
                ]
            )
        expected, ours = ([json.loads(each) for each in side] for side in scopes)
        for each in ours:
            # HTTP+SSE is served beside the endpoint.
            each["routes"] = [path for path in each["routes"] if path not in ("/sse", "/message")]
        assert ours == expected
        sse = SseClient(handler.app)
        sse.always = bearer
        async with sse:
            await sse.initialize()
            answer = await sse.answer("tools/call", {"name": "scope", "arguments": {}})
        seen_by_sse = json.loads(text_of(answer))
        for name in ("keys", "app", "same router", "user", "auth", "state", "path_params", "root_path"):
            assert seen_by_sse[name] == expected[0][name], name


async def test_what_is_around_the_handler_stays_in_the_scope() -> None:
    async with create_handler(mcpserver(), session_manager=in_memory()) as handler:
        outer = object()

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            more = {
                "root_path": "/api",
                "path": f"/api{scope['path']}",
                "router": outer,
                "path_params": {"a": "b"},
            }
            await handler.app({**scope, **more}, receive, send)

        client = await Client(mounted).initialize()
        seen_by_tool = json.loads(await client.call("scope"))
        assert seen_by_tool["path_params"] == "{'a': 'b'}"
        assert seen_by_tool["root_path"] == "'/api'"
        assert not seen_by_tool["same router"]


async def test_the_application_that_a_server_has_made_keeps_its_session_manager() -> None:
    for server in (MCPServer("a"), Server("b"), official()):
        server.streamable_http_app()
        before = server.session_manager
        async with create_handler(server, session_manager=in_memory()) as handler:
            await Client(handler.app).post(PING)
        assert server.session_manager is before


@pytest.mark.parametrize("routes", [False, True])
async def test_fastmcps_own_guard_is_obeyed_with_and_without_routes(
    new_handler: NewHandler, monkeypatch: pytest.MonkeyPatch, *, routes: bool
) -> None:
    monkeypatch.setattr(fastmcp.settings, "http_host_origin_protection", True)
    server: FastMCP[Any] = FastMCP("guarded")
    app = new_handler(with_routes(server) if routes else server).app
    assert (await seen(app, "POST", "/mcp", {"host": "elsewhere.example"}, b"{}"))[0] == 421
    assert (await seen(app, "POST", "/mcp", {}, b"{}"))[0] == 400
