"""Multi round trip requests (2026-07-28) across instances: rules K of the checklist, by name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from mcp.server.request_state import RequestStateSecurity

from tests.differential.wire import lifespan
from tests.support.modern import (
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    ModernClient,
    error_of,
)
from tests.support.modern_server import Stage, modern_server
from tests.support.users import two_users
from tmcp_serverless import (
    ConfigurationError,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
    create_handler,
)

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler
    from tmcp_serverless.transports.asgi import Scope


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def client(new_handler: NewHandler, stage: Stage) -> ModernClient:
    """A client whose requests go to three instances in turns."""
    return ModernClient(*(new_handler(modern_server(stage)).app for _ in range(3)))


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


async def test_a_key_of_one_process_is_refused_with_what_to_do_about_it(stage: Stage) -> None:
    class KeepsNoSecret(InMemoryInfoSessionManager):
        async def secret(self, name: str, proposed: str) -> Any:
            del name, proposed

    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=KeepsNoSecret())
    handler = create_handler(modern_server(stage), session_manager=managers)
    client = ModernClient(handler.app)
    assert (await client.call("talk"))["content"][0]["text"] == "done"
    refused = await client.ask("tools/call", {"name": "greet", "arguments": {"greeting": "Hello"}})
    assert "TMCP_REQUEST_STATE_KEYS" in refused.messages[-1]["error"]["message"]
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
