"""The modern era (2026-07-28) on the same URL: rules A, C, D, E, F and L of the checklist, by name."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from pydantic import Field

from tests.support.client import Client
from tests.support.modern import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    META,
    MISSING_CAPABILITY,
    MODERN,
    UNSUPPORTED_VERSION,
    ModernClient,
    error_of,
    methods,
)
from tests.support.modern_fixtures import client, stage
from tests.support.modern_server import Stage, modern_server
from tmcp_serverless import (
    ConfigurationError,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
    create_handler,
)
from tmcp_serverless.http import client_stream
from tmcp_serverless.modern.client_stream import ModernClientStream
from tmcp_serverless.sdk.server_kind import lowlevel_server

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import Message, Receive, Scope, Send

__all__ = ["client", "stage"]


async def test_rule_a11_c9_there_is_no_session_and_no_other_method(client: ModernClient) -> None:
    for verb in ("GET", "DELETE"):
        async with client.sending(verb) as exchange:
            assert (await exchange.whole()).status == 405
    answered = await client.ask("tools/list", mcp_session_id="somebody's")
    assert answered.status == 200
    assert "mcp-session-id" not in answered.headers


async def test_rule_d12_one_url_serves_both_eras_request_by_request(
    new_handler: NewHandler, stage: Stage
) -> None:
    app = new_handler(modern_server(stage)).app
    discovered = await ModernClient(app).result("server/discover")
    assert discovered["supportedVersions"] == [MODERN]
    legacy = await Client(app).initialize()
    assert await legacy.result("ping") == {}
    assert (await ModernClient(app).call("talk"))["content"][0]["text"] == "done"
    assert await legacy.result("ping") == {}


async def test_rule_d7_another_version_is_refused_by_name(client: ModernClient) -> None:
    refused = await client.ask("tools/list", mcp_protocol_version="2099-01-01")
    assert refused.status == 400
    meta = {"_meta": {f"{META}/protocolVersion": "2099-01-01"}}
    refused = await client.ask("tools/list", meta, mcp_protocol_version="2099-01-01")
    assert error_of(refused) == (400, UNSUPPORTED_VERSION)
    assert refused.messages[0]["error"]["data"] == {"supported": [MODERN], "requested": "2099-01-01"}


async def test_rule_d8_e1_e2_headers_match_the_body(client: ModernClient) -> None:
    call = {"name": "talk", "arguments": {}}
    assert error_of(await client.ask("tools/call", call, mcp_method="tools/list")) == (400, HEADER_MISMATCH)
    assert error_of(await client.ask("tools/call", call, mcp_method=None)) == (400, HEADER_MISMATCH)
    assert error_of(await client.ask("tools/call", call, mcp_name="greet")) == (400, HEADER_MISMATCH)
    encoded = await client.ask("tools/call", call, mcp_name="=?base64?dGFsaw==?=")
    assert encoded.status == 200


async def test_rule_e3_header_names_are_of_any_case_and_values_are_not(client: ModernClient) -> None:
    call = {"name": "talk", "arguments": {}}
    assert (await client.ask("tools/call", call, **{"Mcp-Name": "talk", "mcp_name": None})).status == 200
    assert error_of(await client.ask("tools/call", call, mcp_name="Talk")) == (400, HEADER_MISMATCH)


async def test_rule_e4_e5_e6_e7_parameters_in_headers_match_the_body(new_handler: NewHandler) -> None:
    def build() -> MCPServer:
        server = MCPServer("parameters", log_level="ERROR")

        @server.tool()
        async def query(
            region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
            limit: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Limit"})] = 0,
        ) -> str:
            return f"{region} {limit}"

        return server

    client = ModernClient(*(new_handler(build()).app for _ in range(2)))

    async def status(arguments: dict[str, Any], **headers: str) -> int:
        exchange = await client.ask("tools/call", {"name": "query", "arguments": arguments}, **headers)
        return exchange.status

    assert await status({"region": "eu", "limit": 5}, mcp_param_region="eu", mcp_param_limit="5") == 200
    assert await status({"region": "żółć"}, mcp_param_region="=?base64?xbzDs8WCxIc=?=") == 200
    assert await status({}) == 200
    assert await status({"region": "eu"}) == 400
    assert await status({"region": "eu"}, mcp_param_region="us") == 400
    assert await status({"limit": 5}, mcp_param_limit="6") == 400


async def test_rule_e8_a_notification_needs_no_such_headers(client: ModernClient) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with client.sending("POST", message) as exchange:
        assert (await exchange.whole()).status == 202


async def test_rule_a4_what_is_no_request_and_no_notification_is_400(client: ModernClient) -> None:
    for body in ([], {"jsonrpc": "2.0", "id": 1, "result": {}}, {"id": 1}):
        async with client.sending("POST", body) as exchange:
            assert (await exchange.whole()).status == 400


async def test_rule_d9_the_envelope_is_required_but_for_the_clients_name(client: ModernClient) -> None:
    whole = {f"{META}/protocolVersion": MODERN, f"{META}/clientCapabilities": {}}
    for missing in whole:
        meta = {name: value for name, value in whole.items() if name != missing}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        async with client.sending("POST", body, mcp_method="tools/list") as exchange:
            assert error_of(await exchange.whole())[0] == 400
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": whole}}
    async with client.sending("POST", body, mcp_method="tools/list") as exchange:
        assert (await exchange.whole()).status == 200


async def test_rule_d10_a_capability_that_is_needed_and_undeclared_is_named(client: ModernClient) -> None:
    client.capabilities = {}
    refused = await client.ask("tools/call", {"name": "greet", "arguments": {"greeting": "Hello"}})
    assert error_of(refused) == (400, MISSING_CAPABILITY)
    assert refused.messages[0]["error"]["data"]["requiredCapabilities"] == {"elicitation": {"form": {}}}


async def test_rule_d11_discovery_says_what_there_is(client: ModernClient) -> None:
    found = await client.result("server/discover")
    assert found["supportedVersions"] == [MODERN]
    assert found["capabilities"]["tools"] == {"listChanged": True}
    assert found["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}
    assert found["_meta"][f"{META}/serverInfo"]["name"] == "modern"


async def test_rule_d14_d15_every_instance_answers_the_same_without_having_seen_the_client(
    client: ModernClient,
) -> None:
    listed = [await client.result("tools/list") for _ in range(3)]
    assert listed[0] == listed[1] == listed[2]


async def test_rule_a13_an_unknown_method_is_404(client: ModernClient) -> None:
    assert error_of(await client.ask("no/such")) == (404, -32601)
    assert error_of(await client.ask("ping")) == (404, -32601)


async def test_rule_d16_every_result_says_what_kind_it_is(client: ModernClient) -> None:
    for method in ("tools/list", "resources/list", "server/discover"):
        assert (await client.result(method))["resultType"] == "complete"
    assert (await client.call("greet", greeting="Hi"))["resultType"] == "input_required"


async def test_rule_f8_a_client_that_leaves_cancels_its_request(client: ModernClient, stage: Stage) -> None:
    call = {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}
    async with client.asking("tools/call", call) as exchange:
        await exchange.count(1)
        assert stage.waiting.is_set()
    await asyncio.wait_for(stage.cancelled.wait(), 30)


async def test_rule_f10_logs_are_sent_to_who_asks_for_them(client: ModernClient) -> None:
    call: dict[str, Any] = {"name": "talk", "arguments": {}}
    assert methods(await client.ask("tools/call", call)) == ["result"]
    asked = await client.ask("tools/call", {**call, "_meta": {f"{META}/logLevel": "info"}})
    assert methods(asked) == ["notifications/message", "result"]


async def test_a_body_that_is_too_long_is_refused(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(new_handler(modern_server(stage), max_body_bytes=1000).app)
    assert (await client.ask("tools/call", {"name": "talk", "arguments": {"x": "y" * 1000}})).status == 413


async def test_rule_l1_hints_are_private_unless_it_is_configured(
    new_handler: NewHandler, stage: Stage
) -> None:
    plain = ModernClient(new_handler(modern_server(stage)).app)
    shared = ModernClient(new_handler(modern_server(stage), cache_ttl_ms=60_000, cache_scope="public").app)
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        listed = await plain.result(method)
        assert (listed["ttlMs"], listed["cacheScope"]) == (0, "private")
        listed = await shared.result(method)
        assert (listed["ttlMs"], listed["cacheScope"]) == (60_000, "public")
    read = await shared.result("resources/read", {"uri": "note://one"})
    assert (read["ttlMs"], read["cacheScope"]) == (60_000, "public")


async def test_rule_l2_every_page_has_the_same_scope(client: ModernClient) -> None:
    scopes = {(await client.result("tools/list"))["cacheScope"] for _ in range(3)}
    assert scopes == {"private"}


async def test_rule_l3_a_question_carries_no_hint(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(new_handler(modern_server(stage), cache_ttl_ms=60_000).app)
    assert not {"ttlMs", "cacheScope"} & (await client.call("greet", greeting="Hello")).keys()


async def test_rule_l4_a_resource_that_is_not_there_is_invalid_params(client: ModernClient) -> None:
    refused = await client.ask("resources/read", {"uri": "note://none"})
    assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS


# What goes out


@pytest.mark.parametrize("gone", [False, True], ids=["does not read", "has gone"])
async def test_a_request_ends_whose_client_does_not_take_what_it_is_sent(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    monkeypatch.setattr(client_stream, "_PATIENCE_SECONDS", 0.2)
    app = new_handler(modern_server(stage)).app

    async def not_taken(scope: Scope, receive: Receive, send: Send) -> None:
        async def blocked(message: Message) -> None:
            if message["type"] != "http.response.start":
                if gone:
                    raise BrokenPipeError
                await asyncio.Event().wait()
            await send(message)

        await app(scope, receive, blocked)

    call = {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}
    async with ModernClient(not_taken).asking("tools/call", call) as exchange:
        await exchange.whole()
    assert stage.cancelled.is_set()


@pytest.mark.parametrize(("kind", "status"), [(b"application/json", 503), (b"text/event-stream", 200)])
async def test_a_refused_request_is_a_503_unless_its_answer_is_a_stream(kind: bytes, status: int) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    client = ModernClientStream(send)
    client.refuse(ConfigurationError("the log has this"))
    await client.send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await client.send({"type": "http.response.body", "body": b"{}"})
    head, whole = sent
    assert head["status"] == status
    assert ((b"retry-after", b"5") in head["headers"]) == (status == 503)
    assert whole["body"] == b"{}"


@pytest.mark.parametrize("catches", [True, False])
async def test_a_refusal_that_a_servers_own_middleware_catches_is_no_503(
    stage: Stage, *, catches: bool
) -> None:
    server = modern_server(stage)

    async def go_on(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next(ctx)
        except MCPError:
            if not catches or ctx.method != "tools/call":
                raise
            return {"content": [], "resultType": "complete"}

    lowlevel_server(server).middleware.insert(0, go_on)
    without_keys = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    async with create_handler(server, session_manager=without_keys) as handler:
        call = {"name": "greet", "arguments": {"greeting": "Hello"}}
        answer = await ModernClient(handler.app).ask("tools/call", call)
    assert answer.status == (200 if catches else 503)
    assert ("result" in answer.messages[-1]) == catches
    assert ("retry-after" in answer.headers) != catches


@pytest.mark.parametrize("server", [42, object(), MCPServer, create_handler, json])
def test_what_is_no_server_is_refused_when_a_handler_is_made(server: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"not an MCP server: .*expected an object of mcp\.server"):
        create_handler(server)
