"""Multi round trip requests (2026-07-28) across instances: rules K of the checklist, by name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateSecurity
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from starlette.authentication import SimpleUser

from tests.differential.wire import lifespan
from tests.support.modern import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    ModernClient,
    error_of,
)
from tests.support.modern_fixtures import client, stage
from tests.support.modern_server import Stage, modern_server
from tests.support.users import two_users
from tmcp_serverless import (
    ConfigurationError,
    InMemoryInfoSessionManager,
    InMemoryKeyStore,
    InMemoryStreamSessionManager,
    SessionManagers,
    StoreUnavailableError,
    create_handler,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler
    from tmcp_serverless.http import ASGIApp, Receive, Scope, Send

__all__ = ["client", "stage"]


ZOE = {"action": "accept", "content": {"name": "Zoë"}}


async def test_rule_k1_k2_only_what_may_ask_asks_and_says_what(client: ModernClient) -> None:
    asked = await client.call("greet", greeting="Hello")
    assert asked["inputRequests"]
    assert asked["requestState"]
    for method in ("tools/list", "prompts/list", "resources/list", "server/discover"):
        assert (await client.result(method))["resultType"] == "complete"


async def test_rule_k3_a_request_state_is_opened_by_any_instance(client: ModernClient, stage: Stage) -> None:
    for _ in range(3):  # Each round begins on another instance.
        asked = await client.call("greet", greeting="Hello")
        ((key, question),) = asked["inputRequests"].items()
        assert question["method"] == "elicitation/create"
        answered = await client.answer(asked, {key: ZOE}, "greet", greeting="Hello")
        assert answered.messages[-1]["result"]["content"][0]["text"] == "Hello Zoë"
        await client.ask("tools/list")
    assert stage.greeted == ["Zoë"] * 3


async def test_rule_k3_a_request_state_that_was_changed_is_refused(
    client: ModernClient, stage: Stage
) -> None:
    asked = await client.call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    forged = {**asked, "requestState": asked["requestState"][:-2] + "AA"}
    for state in (forged, {"requestState": "x"}):
        refused = await client.answer(state, {key: ZOE}, "greet", greeting="Hello")
        assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
    assert stage.greeted == []


async def test_rule_k4_a_request_state_is_for_one_request_and_one_principal(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(*(new_handler(modern_server(stage, **two_users())).app for _ in range(2)))
    call = {"name": "greet", "arguments": {"greeting": "Hello"}}
    asked = (await client.ask("tools/call", call, authorization="Bearer alice")).messages[-1]["result"]
    (key,) = asked["inputRequests"]
    answered = {**call, "inputResponses": {key: ZOE}, "requestState": asked["requestState"]}
    another = {**answered, "arguments": {"greeting": "Goodbye"}}
    for wrong, who in ((another, "alice"), (answered, "bob")):
        refused = await client.ask("tools/call", wrong, authorization=f"Bearer {who}")
        assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
    assert stage.greeted == []
    await client.ask("tools/call", answered, authorization="Bearer alice")
    assert stage.greeted == ["Zoë"]


def who_says(scope: Scope) -> str:
    """Return who a gateway in front of the server says is asking."""
    return dict(scope["headers"]).get(b"x-user", b"").decode()


async def test_rule_k4_a_request_state_is_for_the_principal_that_the_handler_was_told_of(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(*(new_handler(modern_server(stage), principal=who_says).app for _ in range(2)))
    call = {"name": "greet", "arguments": {"greeting": "Hello"}}
    for owner, others in (("alice", ("bob", None)), (None, ("bob",))):
        stage.greeted.clear()
        asked = (await client.ask("tools/call", call, x_user=owner)).messages[-1]["result"]
        (key,) = asked["inputRequests"]
        answered = {**call, "inputResponses": {key: ZOE}, "requestState": asked["requestState"]}
        for other in others:
            refused = await client.ask("tools/call", answered, x_user=other)
            assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
        assert stage.greeted == []
        await client.ask("tools/call", answered, x_user=owner)
        assert stage.greeted == ["Zoë"]


def sdk_user(name: str) -> AuthenticatedUser:
    return AuthenticatedUser(AccessToken(token=name, client_id="app", scopes=[], subject=name))


def signed_in(app: ASGIApp, new_user: Callable[[str], Any]) -> ASGIApp:
    """Return the application behind a middleware that says who is asking, and nothing else."""

    async def with_user(scope: Scope, receive: Receive, send: Send) -> None:
        name = who_says(scope)
        await app({**scope, "user": new_user(name)} if name else scope, receive, send)

    return with_user


def asking_server(name: str, done: list[str]) -> Server[Any]:
    """Make a lowlevel server, whose `delete` asks before it does."""

    async def call_tool(ctx: Any, params: Any) -> CallToolResult:
        del params
        await ctx.session.elicit_form("Really?", {"type": "object", "properties": {}})
        done.append(name)
        return CallToolResult(content=[TextContent(type="text", text="done")])

    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="delete", input_schema={"type": "object"})])

    return Server(name, on_call_tool=call_tool, on_list_tools=list_tools)


@pytest.mark.parametrize("new_user", [SimpleUser, sdk_user])
@pytest.mark.parametrize("kind", ["MCPServer", "lowlevel"])
async def test_rule_k4_a_request_state_is_for_the_user_whom_a_middleware_has_found_out(
    new_handler: NewHandler, stage: Stage, new_user: Callable[[str], Any], kind: str
) -> None:
    done: list[str] = []
    if kind == "MCPServer":
        call = {"name": "greet", "arguments": {"greeting": "Hello"}}
        apps = [new_handler(modern_server(stage)).app for _ in range(2)]
        done = stage.greeted
    else:
        call = {"name": "delete", "arguments": {}}
        apps = [new_handler(asking_server("Zoë", done), replayable=["delete"]).app for _ in range(2)]
    client = ModernClient(*(signed_in(app, new_user) for app in apps))
    for owner, other in (("alice", "bob"), ("alice", None), (None, "bob")):
        done.clear()
        asked = (await client.ask("tools/call", call, x_user=owner)).messages[-1]["result"]
        (key,) = asked["inputRequests"]
        answered = {**call, "inputResponses": {key: ZOE}, "requestState": asked["requestState"]}
        refused = await client.ask("tools/call", answered, x_user=other)
        assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
        assert done == []
        await client.ask("tools/call", answered, x_user=owner)
        assert done == ["Zoë"]


async def test_a_request_state_of_a_lowlevel_server_is_for_servers_of_its_name(
    new_handler: NewHandler,
) -> None:
    done: list[str] = []
    names = ("staging", "production", "staging")
    staging, production, another = (
        ModernClient(new_handler(asking_server(name, done), replayable=["delete"]).app) for name in names
    )
    asked = await staging.call("delete")
    (key,) = asked["inputRequests"]
    refused = await production.answer(asked, {key: ZOE}, "delete")
    assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
    assert done == []
    await another.answer(asked, {key: ZOE}, "delete")
    assert done == ["staging"]


class Plain:
    """A codec that is not the SDK's."""

    def seal(self, payload: bytes) -> str:
        return payload.hex()

    def unseal(self, token: str) -> bytes:
        return bytes.fromhex(token)


@pytest.mark.parametrize(
    ("security", "refused"),
    [
        (RequestStateSecurity(codec=Plain()), True),
        (RequestStateSecurity(keys=["k" * 32], bind_principal=lambda _: "everybody"), False),
        (RequestStateSecurity(keys=["k" * 32], bind_principal=None), False),
    ],
    ids=["a codec of its own", "a principal of its own", "no principal"],
)
async def test_a_servers_own_codec_is_bound_too_and_its_own_principal_kept(
    new_handler: NewHandler, stage: Stage, security: RequestStateSecurity, *, refused: bool
) -> None:
    server = modern_server(stage, request_state_security=security)
    client = ModernClient(new_handler(server, principal=who_says).app)
    call = {"name": "greet", "arguments": {"greeting": "Hello"}}
    asked = (await client.ask("tools/call", call, x_user="alice")).messages[-1]["result"]
    (key,) = asked["inputRequests"]
    answered = {**call, "inputResponses": {key: ZOE}, "requestState": asked["requestState"]}
    outcome = (await client.ask("tools/call", answered, x_user="bob")).messages[-1]
    assert ("error" in outcome) is refused
    if refused:
        outcome = (await client.ask("tools/call", answered, x_user="alice")).messages[-1]
    assert outcome["result"]["content"][0]["text"] == "Hello Zoë"


async def test_rule_k5_row_30_a_state_that_may_be_used_once_is_refused_the_second_time(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(*(new_handler(modern_server(stage), single_use=True).app for _ in range(3)))
    asked = await client.call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    rounds = [client.answer(asked, {key: ZOE}, "greet", greeting="Hello") for _ in range(6)]
    outcomes = [exchange.messages[-1] for exchange in await asyncio.gather(*rounds)]
    assert sum("result" in outcome for outcome in outcomes) == 1
    assert {outcome["error"]["code"] for outcome in outcomes if "error" in outcome} == {INVALID_PARAMS}
    assert stage.greeted == ["Zoë"]


async def test_a_forged_state_does_not_use_up_the_real_one(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(new_handler(modern_server(stage), single_use=True).app)
    asked = await client.call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    await client.answer(asked, {key: ZOE}, "greet", greeting="Another")  # Refused: it is for another call.
    answered = await client.answer(asked, {key: ZOE}, "greet", greeting="Hello")
    assert "result" in answered.messages[-1]


async def test_rule_k6_nothing_is_asked_that_the_client_has_not_declared(client: ModernClient) -> None:
    client.capabilities = {}
    refused = await client.ask("tools/call", {"name": "greet", "arguments": {"greeting": "Hello"}})
    assert error_of(refused) == (400, MISSING_CAPABILITY)
    assert "elicitation" in refused.messages[0]["error"]["data"]["requiredCapabilities"]


async def test_rule_k7_a_missing_answer_is_asked_for_again_and_others_are_ignored(
    client: ModernClient,
) -> None:
    asked = await client.call("greet", greeting="Hello")
    again = await client.answer(asked, {"other": ZOE}, "greet", greeting="Hello")
    assert again.messages[-1]["result"]["resultType"] == "input_required"
    assert again.messages[-1]["result"]["inputRequests"].keys() == asked["inputRequests"].keys()


async def test_keys_are_a_ring_that_can_be_rotated(new_handler: NewHandler, stage: Stage) -> None:
    old, new = "o" * 32, "n" * 32
    before = ModernClient(new_handler(modern_server(stage), request_state_keys=[old]).app)
    between = ModernClient(new_handler(modern_server(stage), request_state_keys=f"{new},{old}").app)
    after = ModernClient(new_handler(modern_server(stage), request_state_keys=[new]).app)
    asked = await before.call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    assert "result" in (await between.answer(asked, {key: ZOE}, "greet", greeting="Hello")).messages[-1]
    assert "error" in (await after.answer(asked, {key: ZOE}, "greet", greeting="Hello")).messages[-1]
    asked = await between.call("greet", greeting="Hello")
    assert "result" in (await after.answer(asked, {key: ZOE}, "greet", greeting="Hello")).messages[-1]


@pytest.mark.parametrize("keys", ["too short", f"{'a' * 32},short", f"{'a' * 32},{'a' * 32}"])
def test_keys_that_are_too_short_or_twice_the_same_are_refused_without_being_shown(keys: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        create_handler(MCPServer("x"), request_state_keys=keys)
    assert "TMCP_REQUEST_STATE_KEYS" in str(refused.value) or "request_state_keys" in str(refused.value)
    assert keys not in str(refused.value)


NOT_READY = "The server is not configured rightly; its log says what to change"


async def test_a_key_of_one_process_is_refused_and_the_log_says_what_to_do_about_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    handler = create_handler(modern_server(stage), session_manager=managers)
    (warned,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "TMCP_REQUEST_STATE_KEYS" in warned.message
    client = ModernClient(handler.app)
    assert (await client.call("talk"))["content"][0]["text"] == "done"
    refused = await client.ask("tools/call", {"name": "greet", "arguments": {"greeting": "Hello"}})
    assert error_of(refused) == (503, INTERNAL_ERROR)
    assert refused.headers["retry-after"] == "5"
    assert refused.messages[-1]["error"]["message"] == NOT_READY
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "answered 503" in said.message
    assert "TMCP_REQUEST_STATE_KEYS" in said.message
    await handler.aclose()


@pytest.mark.parametrize("keys", [None, InMemoryKeyStore()], ids=["without", "with a store"])
async def test_a_start_without_a_key_that_instances_share_is_warned_of(
    stage: Stage, caplog: pytest.LogCaptureFixture, keys: InMemoryKeyStore | None
) -> None:
    managers = SessionManagers(
        streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager(), keys=keys
    )
    await create_handler(modern_server(stage), session_manager=managers).aclose()
    await create_handler(modern_server(stage)).aclose()
    warned = ["TMCP_REQUEST_STATE_KEYS" in record.message for record in caplog.records]
    assert warned.count(True) == (1 if keys is None else 0)
    caplog.clear()
    handler = create_handler(modern_server(stage), session_manager=managers, request_state_keys=["k" * 32])
    await handler.aclose()
    assert "TMCP_REQUEST_STATE_KEYS" not in caplog.text


async def test_single_use_without_a_place_to_record_it_is_refused_at_the_start(stage: Stage) -> None:
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    with pytest.raises(ConfigurationError, match=r"TMCP_SINGLE_USE.*keys="):
        create_handler(
            modern_server(stage), session_manager=managers, single_use=True, request_state_keys=["k" * 32]
        )


async def test_what_is_wrong_with_the_database_is_for_the_log_and_not_for_clients(
    empty_database_url: str, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    server, _, database = empty_database_url.rpartition("/")
    for url, kept in ((f"{server}/customers_of_ours", "customers_of_ours"), (empty_database_url, "migrate")):
        caplog.clear()
        handler = create_handler(modern_server(stage), database_url=url, create_tables=False)
        asked = await ModernClient(handler.app).ask(
            "tools/call", {"name": "greet", "arguments": {"greeting": "Hello"}}
        )
        assert error_of(asked) == (503, INTERNAL_ERROR)
        assert asked.messages[-1]["error"] == {"code": INTERNAL_ERROR, "message": NOT_READY}
        assert kept in caplog.text
        assert database not in str(asked.messages)
        await handler.aclose()


async def test_row_13_a_state_that_cannot_be_sealed_is_a_503_until_the_store_is_back(stage: Stage) -> None:
    class Away(InMemoryKeyStore):
        away = True

        async def secret(self, name: str, proposed: str) -> str:
            if self.away:
                raise StoreUnavailableError("out of reach")
            return await super().secret(name, proposed)

        async def spend(self, token: str, *, seconds: float) -> bool:
            if self.away:
                raise StoreUnavailableError("out of reach")
            return await super().spend(token, seconds=seconds)

    keys = Away()
    managers = SessionManagers(
        streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager(), keys=keys
    )
    handler = create_handler(modern_server(stage), session_manager=managers, single_use=True)
    client = ModernClient(handler.app)
    call = {"name": "greet", "arguments": {"greeting": "Hello"}}
    refused = await client.ask("tools/call", call, id="mine")
    assert error_of(refused) == (503, INTERNAL_ERROR)
    assert refused.headers["retry-after"] == "1"
    assert refused.messages[-1]["id"] == "mine"
    keys.away = False
    asked = await client.call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    keys.away = True
    assert error_of(await client.answer(asked, {key: ZOE}, "greet", greeting="Hello"))[0] == 503
    assert stage.greeted == []
    keys.away = False
    assert (await client.answer(asked, {key: ZOE}, "greet", greeting="Hello")).status == 200
    assert stage.greeted == ["Zoë"]
    await handler.aclose()


async def test_what_the_servers_own_key_has_sealed_is_still_opened(
    new_handler: NewHandler, stage: Stage
) -> None:
    """A server that ran without the kit before, with keys of its own, goes on where it was."""
    security = RequestStateSecurity(keys=["k" * 32])
    app = modern_server(stage, request_state_security=security).streamable_http_app()
    async with lifespan(app):
        asked = await ModernClient(app).call("greet", greeting="Hello")
    (key,) = asked["inputRequests"]
    server = modern_server(stage, request_state_security=RequestStateSecurity(keys=["k" * 32]))
    client = ModernClient(new_handler(server).app)
    answered = await client.answer(asked, {key: ZOE}, "greet", greeting="Hello")
    assert "result" in answered.messages[-1]


async def test_what_was_sealed_for_a_user_without_the_kit_is_opened_for_that_user(
    new_handler: NewHandler, stage: Stage
) -> None:
    def server() -> MCPServer:
        security = RequestStateSecurity(keys=["k" * 32])
        return modern_server(stage, request_state_security=security, **two_users())

    call = {"name": "greet", "arguments": {"greeting": "Hello"}}
    app = server().streamable_http_app()
    async with lifespan(app):
        asking = ModernClient(app).ask("tools/call", call, authorization="Bearer alice")
        asked = (await asking).messages[-1]["result"]
    (key,) = asked["inputRequests"]
    answered = {**call, "inputResponses": {key: ZOE}, "requestState": asked["requestState"]}
    client = ModernClient(new_handler(server()).app)
    refused = await client.ask("tools/call", answered, authorization="Bearer bob")
    assert refused.messages[-1]["error"]["code"] == INVALID_PARAMS
    outcome = await client.ask("tools/call", answered, authorization="Bearer alice")
    assert "result" in outcome.messages[-1]
