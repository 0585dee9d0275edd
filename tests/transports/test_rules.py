"""The rules of the MCP transports, A to D, F and G of the checklist: a test for each, named after it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server.mcpserver import Context

from tests.support.client import Client, initialize_message
from tests.support.servers import small_server
from tmcp_serverless import HttpTransport, InMemoryStreamSessionManager, SessionManagers, create_handler

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler, NewManagers

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
INITIALIZE = {**initialize_message(), "id": 1}


@pytest.fixture
async def client(new_handler: NewHandler) -> Client:
    """A session that two instances serve in turns."""
    first, second = new_handler(small_server()), new_handler(small_server())
    return await Client(first.app, second.app).initialize()


async def test_a1_messages_are_utf_8(client: Client) -> None:
    assert await client.call("echo", text="żółć 🦆") == "żółć 🦆"
    exchange = await client.post(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}')
    assert (exchange.status, exchange.messages[0]["error"]["code"]) == (400, -32700)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_a1_what_is_no_number_in_json_is_null(new_handler: NewHandler, value: float) -> None:
    server = small_server()

    @server.tool()
    async def measure(ctx: Context) -> dict[str, Any]:
        await ctx.report_progress(1, value)
        await ctx.info({"loss": value})  # pyright: ignore[reportDeprecated]
        return {"mean": value}

    handler = new_handler(server)
    client = await Client(handler.app).initialize()
    call = {"name": "measure", "arguments": {}, "_meta": {"progressToken": "t"}}
    progress, said, answer = (await client.ask("tools/call", call)).messages
    assert progress["params"] == {"progressToken": "t", "progress": 1, "total": None}
    assert said["params"]["data"] == {"loss": None}
    assert answer["result"]["structuredContent"] == {"mean": None}
    async with client.listen() as stream:
        await stream.begun()
        await handler.notifier.send(None, {"method": "notifications/x", "params": {"mean": value}})
        assert (await stream.count(1))[-1]["params"] == {"mean": None}


async def test_a2_one_path_takes_post_get_and_delete_and_no_other_path_does(client: Client) -> None:
    assert await client.result("ping") == {}
    client.path = "/mcp/"
    assert await client.result("ping") == {}
    client.path = "/elsewhere"
    assert (await client.ask("ping")).status == 404


async def test_a2_another_method_is_405_and_names_the_allowed_ones(client: Client) -> None:
    for verb in ("PUT", "PATCH"):
        async with client.send(verb, b"{}") as exchange:
            await exchange.whole()
        assert exchange.status == 405
        assert exchange.headers["allow"] == "GET, POST, DELETE, OPTIONS"


@pytest.mark.parametrize(
    "accept",
    ["application/json", "text/event-stream", "text/html", "", "application/jsonx, text/event-stream"],
)
async def test_a3_a_post_that_does_not_accept_both_kinds_is_406(client: Client, accept: str) -> None:
    exchange = await client.ask("ping", accept=accept)
    assert exchange.status == 406
    assert "must accept both" in exchange.messages[0]["error"]["message"]


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*, text/*", "text/event-stream;q=0.5 , application/json;q=1"]
)
async def test_a3_wildcards_and_parameters_are_understood(client: Client, accept: str) -> None:
    assert (await client.ask("ping", accept=accept)).status == 200


async def test_a3_a_post_that_is_not_json_is_400(client: Client) -> None:
    exchange = await client.ask("ping", content_type="text/plain")
    assert exchange.status == 400
    assert (await client.ask("ping", content_type="application/json; charset=utf-8")).status == 200


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_a4_an_array_is_refused_where_batches_do_not_exist(
    new_handler: NewHandler, version: str
) -> None:
    client = await Client(new_handler(small_server()).app, version=version).initialize()
    exchange = await client.post([PING])
    assert (exchange.status, exchange.messages[0]["error"]["code"]) == (400, -32602)


@pytest.fixture
async def batching(new_handler: NewHandler) -> Client:
    first, second = new_handler(small_server()), new_handler(small_server())
    return await Client(first.app, second.app, version="2025-03-26").initialize()


async def test_a5_a_batch_is_answered_with_a_response_for_each_request(batching: Client) -> None:
    call = {"name": "add", "arguments": {"a": 1, "b": 2}}
    exchange = await batching.post(
        [
            {"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": call},
            {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
            {"jsonrpc": "2.0", "id": 2, "method": "nope"},
            {"jsonrpc": "2.0", "id": 77, "result": {}},
        ]
    )
    assert exchange.status == 200
    assert not exchange.streams
    by_id = {message["id"]: message for message in exchange.messages}
    assert by_id["x"]["result"]["content"][0]["text"] == "3"
    assert by_id[2]["error"]["code"] == -32601


async def test_a5_a_batch_whose_request_talks_is_answered_as_a_stream(batching: Client) -> None:
    talk = {"name": "talk", "arguments": {}, "_meta": {"progressToken": "t"}}
    exchange = await batching.post([PING, {**PING, "id": 2, "method": "tools/call", "params": talk}])
    assert exchange.streams
    assert {message["id"] for message in exchange.messages if "id" in message} == {1, 2}
    assert [message["method"] for message in exchange.messages if "method" in message] == [
        "notifications/progress",
        "notifications/message",
    ]


async def test_a5_a_batch_has_a_hundred_messages_at_the_most(batching: Client) -> None:
    hundred = [{**PING, "id": number} for number in range(100)]
    assert len((await batching.post(hundred)).messages) == 100
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    for one_more in ({**PING, "id": 100}, changed):
        exchange = await batching.post([*hundred, one_more])
        assert exchange.status == 400
        assert exchange.messages[0]["error"] == {
            "code": -32602,
            "message": "Validation error: a batch of 101 messages; at most 100 are accepted",
        }
    assert await batching.result("ping") == {}


async def test_a6_initialize_in_a_batch_is_refused(batching: Client) -> None:
    exchange = await batching.post([PING, INITIALIZE])
    assert exchange.status == 400
    assert "initialize" in exchange.messages[0]["error"]["message"]


async def test_a7_a_batch_without_requests_is_202(batching: Client) -> None:
    changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    exchange = await batching.post([changed, {"jsonrpc": "2.0", "id": 9, "result": {}}])
    assert (exchange.status, exchange.messages, exchange.text) == (202, [], "")
    assert (await batching.post([])).status == 400


async def test_a8_a_notification_and_a_response_are_202_without_a_body(client: Client) -> None:
    for exchange in (
        await client.notify("notifications/roots/list_changed"),
        await client.notify("notifications/unheard_of"),
        await client.post({"jsonrpc": "2.0", "id": 5, "result": {}}),
        await client.post({"jsonrpc": "2.0", "id": 5, "error": {"code": 1, "message": "no"}}),
    ):
        assert (exchange.status, exchange.messages, exchange.text) == (202, [], "")


async def test_a9_a_notification_that_is_not_accepted_is_an_error_without_an_id(client: Client) -> None:
    client.session = "unknown"
    exchange = await client.notify("notifications/roots/list_changed")
    assert exchange.status == 404
    assert exchange.messages[0]["id"] is None


async def test_a10_a_request_is_answered_as_json_or_as_an_event_stream(client: Client) -> None:
    plain = await client.ask("ping")
    assert plain.headers["content-type"] == "application/json"
    talking = await client.ask("tools/call", {"name": "talk", "arguments": {}})
    assert talking.headers["content-type"] == "text/event-stream"


async def test_a11_get_is_an_event_stream_or_405(client: Client, new_handler: NewHandler) -> None:
    async with client.listen() as stream:
        assert (await stream.begun()).headers["content-type"] == "text/event-stream"
    async with client.send("GET", accept="application/json") as refused:
        assert (await refused.whole()).status == 406
    closed = await Client(new_handler(small_server(), disable_sse=True).app).initialize()
    async with closed.listen() as stream:
        assert (await stream.whole()).status == 405
        assert stream.headers["allow"] == "POST, DELETE, OPTIONS"


async def test_a13_an_unknown_method_is_200_with_its_error(client: Client) -> None:
    exchange = await client.ask("nope/nothing")
    assert (exchange.status, exchange.messages[0]["error"]["code"]) == (200, -32601)


@pytest.mark.parametrize("id", [0, -1, 2**53, "", "a", "7", "żółć"])
async def test_a14_an_answer_carries_the_id_of_its_request(client: Client, id: Any) -> None:
    exchange = await client.post({"jsonrpc": "2.0", "id": id, "method": "ping"})
    assert exchange.messages == [{"jsonrpc": "2.0", "id": id, "result": {}}]
    failing = await client.post({"jsonrpc": "2.0", "id": id, "method": "nope"})
    assert failing.messages[0]["id"] == id


async def test_a15_streams_are_not_buffered_and_are_kept_alive(new_handler: NewHandler) -> None:
    server, go_on = small_server(), asyncio.Event()

    @server.tool()
    async def wait() -> str:
        await go_on.wait()
        return "done"

    client = await Client(new_handler(server, defer_seconds=0.05).app).initialize()
    params = {"name": "wait", "arguments": {}}
    async with client.send("POST", {**PING, "method": "tools/call", "params": params}) as exchange:
        assert (await exchange.begun()).headers["content-type"] == "text/event-stream"
        assert exchange.headers["x-accel-buffering"] == "no"
        go_on.set()
        assert (await exchange.whole()).messages[0]["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_b1_b2_a_foreign_origin_is_403_whatever_the_method(
    client: Client, verb: str, origin: str
) -> None:
    async with client.send(verb, PING if verb == "POST" else None, origin=origin) as exchange:
        await exchange.whole()
    assert exchange.status == 403
    assert exchange.messages[0]["id"] is None


async def test_b1_an_accepted_origin_may_read_the_answer(new_handler: NewHandler) -> None:
    origin = "https://app.example.com"
    handler = new_handler(small_server(), allowed_origins=[origin, "http://localhost:*"])
    client = await Client(handler.app).initialize()
    for allowed in (origin, "http://localhost:6274"):
        exchange = await client.ask("ping", origin=allowed)
        assert exchange.status == 200
        assert exchange.headers["access-control-allow-origin"] == "*"
        assert "Mcp-Session-Id" in exchange.headers["access-control-expose-headers"]
    assert (await client.ask("ping", origin="https://other.example.com")).status == 403
    async with client.send(
        "OPTIONS",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="mcp-session-id,content-type",
    ) as preflight:
        await preflight.whole()
    assert preflight.status == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "mcp-session-id" in preflight.headers["access-control-allow-headers"]


async def test_b1_only_the_given_hosts_are_served(new_handler: NewHandler) -> None:
    handler = new_handler(small_server(), allowed_hosts=["127.0.0.1:*", "mcp.example.com"])
    client = await Client(handler.app).initialize()
    assert (await client.ask("ping", host="mcp.example.com")).status == 200
    assert (await client.ask("ping", host="rebound.example.com")).status == 421


class User:
    """What an authentication in front of the application puts into the scope."""

    is_authenticated = True

    def __init__(self, identity: str) -> None:
        self.identity = identity


async def test_b4_b5_a_session_is_its_principals_and_nobody_elses(new_handler: NewHandler) -> None:
    handler = new_handler(small_server())
    owner = await Client(handler.app, scope={"user": User("me")}).initialize()
    assert await owner.result("ping") == {}
    unknown = Client(handler.app)
    unknown.session = "0123456789"
    wanted = await unknown.ask("ping")
    for scope in ({"user": User("you")}, {}):
        thief = Client(handler.app, scope=scope)
        thief.session = owner.session
        for exchange in (await thief.ask("ping"), await thief.delete()):
            assert (exchange.status, exchange.messages) == (404, wanted.messages)
        async with thief.listen() as stream:
            assert (await stream.whole()).status == 404
    assert await owner.result("ping") == {}


async def test_c1_c2_c3_session_ids_are_unpredictable_visible_ascii(new_handler: NewHandler) -> None:
    app = new_handler(small_server()).app
    ids = [(await Client(app).initialize()).session or "" for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", id) for id in ids)


async def test_c5_a_missing_session_id_is_400_except_for_initialize(client: Client) -> None:
    client.session = None
    exchange = await client.ask("ping")
    assert (exchange.status, exchange.messages[0]["error"]["message"]) == (
        400,
        "Bad Request: Missing session ID",
    )
    assert (await client.delete()).status == 400
    async with client.listen() as stream:
        assert (await stream.whole()).status == 400


async def test_c6_c8_after_delete_the_id_is_404_on_every_instance_and_method(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        assert (await client.delete()).status == 200
        await stream.whole()
    for _ in range(2):
        assert (await client.ask("ping")).status == 404
        assert (await client.notify("notifications/initialized")).status == 404
        assert (await client.delete()).status == 404
        async with client.listen() as again:
            assert (await again.whole()).status == 404


async def test_d1_a_session_that_was_not_initialized_does_not_exist(new_handler: NewHandler) -> None:
    client = Client(new_handler(small_server()).app)
    assert (await client.ask("tools/list")).status == 400
    refused = await client.post({**INITIALIZE, "params": {"protocolVersion": "2025-11-25"}})
    assert refused.messages[0]["error"]["code"] == -32602
    assert "mcp-session-id" not in refused.headers


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
async def test_d2_the_version_is_negotiated(new_handler: NewHandler, asked: str, given: str) -> None:
    client = await Client(new_handler(small_server()).app, version=asked).initialize()
    assert client.version == given


async def test_d4_every_instance_knows_what_was_negotiated(new_handler: NewHandler) -> None:
    server = small_server()

    @server.tool()
    async def negotiated(ctx: Context) -> str:
        capabilities = ctx.client_capabilities
        return f"{ctx.protocol_version} {capabilities.sampling is not None if capabilities else None}"

    client = Client(new_handler(server).app, new_handler(server).app, version="2025-06-18")
    await client.initialize(capabilities={"sampling": {}})
    for _ in range(4):
        assert await client.call("negotiated") == "2025-06-18 True"


async def test_d6_without_a_version_header_the_sessions_own_version_counts(client: Client) -> None:
    assert (await client.ask("ping", mcp_protocol_version=None)).status == 200


async def test_d7_an_unsupported_version_header_is_400(client: Client) -> None:
    exchange = await client.ask("ping", mcp_protocol_version="1999-01-01")
    assert exchange.status == 400


async def test_d7_the_transport_refuses_it_on_initialize_too(new_managers: NewManagers) -> None:
    client = Client(HttpTransport(small_server(), session_manager=new_managers()))
    for wrong in ("1999-01-01", "2026-07-28", ""):
        refused = await client.post(INITIALIZE, mcp_protocol_version=wrong)
        assert refused.status == 400
        assert "mcp-session-id" not in refused.headers
    for right in (None, "2025-11-25", "2025-03-26"):
        assert (await client.post(INITIALIZE, mcp_protocol_version=right)).status == 200


async def test_f4_f5_f7_a_stream_has_what_relates_to_its_request_then_the_answer_then_ends(
    client: Client,
) -> None:
    params = {"name": "talk", "arguments": {}, "_meta": {"progressToken": 1}}
    exchange = await client.ask("tools/call", params)
    assert [message.get("method", "answer") for message in exchange.messages] == [
        "notifications/progress",
        "notifications/message",
        "answer",
    ]
    assert exchange.ended


async def test_f8_a_disconnect_is_not_a_cancellation(new_handler: NewHandler) -> None:
    server = small_server()
    started, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @server.tool()
    async def long(ctx: Context) -> str:
        await ctx.report_progress(1)
        started.set()
        await go_on.wait()
        await ctx.report_progress(2)
        finished.set()
        return "done"

    client = await Client(new_handler(server).app).initialize()
    params = {"name": "long", "arguments": {}, "_meta": {"progressToken": 1}}
    async with client.send("POST", {**PING, "method": "tools/call", "params": params}) as exchange:
        await started.wait()
        exchange.leave()
        go_on.set()
        async with asyncio.timeout(30):
            await finished.wait()


async def test_g1_what_relates_to_no_request_is_on_the_standalone_stream(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        exchange = await client.ask("tools/call", {"name": "change", "arguments": {}})
        assert len(exchange.messages) == 1
        assert (await stream.count(1))[0] == {
            "jsonrpc": "2.0",
            "method": "notifications/tools/list_changed",
        }


async def test_g2_no_response_is_on_the_standalone_stream(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        for number in range(10):
            await client.call("add", a=number, b=1)
        await client.call("change")
        assert [message["method"] for message in await stream.count(1)] == [
            "notifications/tools/list_changed"
        ]


async def test_g3_a_stream_that_the_server_ends_says_when_to_come_back(new_handler: NewHandler) -> None:
    handler = new_handler(small_server(), stream_max_seconds=0.2)
    client = await Client(handler.app).initialize()
    async with client.listen() as stream:
        await stream.whole()
        assert stream.ended
    await handler.notifier.tools_changed()
    async with client.listen() as again:
        assert len(await again.count(1)) == 1


async def test_g5_each_message_is_on_exactly_one_stream(client: Client) -> None:
    async with client.listen() as old:
        await old.begun()
        await client.call("change")
        await old.count(1)
        async with client.listen() as new:
            await new.begun()
            await client.call("change")
            await new.count(1)
            assert (len(old.messages), len(new.messages)) == (1, 1)


async def test_h3_a_standalone_stream_resumes_behind_the_last_event_id(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        for _ in range(3):
            await client.call("change")
        await stream.count(3)
        assert len(set(stream.ids)) == 4, "where it starts, and three events"
        second = stream.ids[2]
    async with client.listen(last_event_id=second) as resumed:
        assert len(await resumed.count(1)) == 1
        assert resumed.ids[0].startswith(f"{second}@")
        assert resumed.ids[1:] == [stream.ids[3]]


@pytest.mark.parametrize("id", ["x", "1", "1.2.3", "-1.0", "9" * 40 + ".0", "'; --"])
async def test_h3_an_event_id_that_was_never_given_is_400(client: Client, id: str) -> None:
    async with client.listen(last_event_id=id) as stream:
        assert (await stream.whole()).status == 400
        assert "Last-Event-ID" in stream.messages[0]["error"]["message"]


async def test_an_event_id_from_the_future_does_not_make_a_stream_deaf(client: Client) -> None:
    async with client.listen(last_event_id="999.999") as stream:
        await stream.begun()
        await client.call("change")
        assert len(await stream.count(1)) == 1


async def test_a_body_that_is_too_long_is_413(client: Client) -> None:
    body = json.dumps({**PING, "params": {"x": "y" * (4 * 1024 * 1024)}}).encode()
    assert (await client.post(body)).status == 413
    assert (await client.post(body, content_length=str(len(body)))).status == 413
    assert await client.result("ping") == {}


async def test_options_names_what_is_allowed(client: Client) -> None:
    async with client.send("OPTIONS") as exchange:
        await exchange.whole()
    assert (exchange.status, exchange.headers["allow"]) == (204, "GET, POST, DELETE, OPTIONS")


async def test_the_level_of_a_session_applies_on_every_instance(client: Client) -> None:
    talk = {"name": "talk", "arguments": {}}
    assert len((await client.ask("tools/call", talk)).messages) == 2
    await client.result("logging/setLevel", {"level": "warning"})
    for _ in range(2):
        assert len((await client.ask("tools/call", talk)).messages) == 1
    await client.result("logging/setLevel", {"level": "debug"})
    assert len((await client.ask("tools/call", talk)).messages) == 2
    refused = await client.ask("logging/setLevel", {"level": "loud"})
    assert refused.messages[0]["error"]["code"] == -32602


async def test_a_subscription_can_be_taken_back(client: Client) -> None:
    refused = await client.ask("resources/subscribe", {"uri": "x://" + "y" * 3_000})
    assert refused.messages[0]["error"]["code"] == -32602
    assert await client.result("resources/subscribe", {"uri": "x://y"}) == {}
    assert await client.result("resources/unsubscribe", {"uri": "x://y"}) == {}


async def test_unsubscribing_is_not_offered_where_the_managers_cannot_take_a_subscription_back() -> None:
    from tests.support.bare_managers import BareInfo

    info = BareInfo()
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=info)
    async with create_handler(small_server(), session_manager=managers) as handler:
        client = await Client(handler.app).initialize()
        assert await client.result("resources/subscribe", {"uri": "x://y"}) == {}
        refused = await client.ask("resources/unsubscribe", {"uri": "x://y"})
        assert (refused.status, refused.messages[0]["error"]["code"]) == (200, -32601)
        assert await info.get_subscriptions("x://y") == {client.session}
        assert await client.call("add", a=1, b=2) == "3"


async def test_session_methods_can_be_left_to_the_server(new_handler: NewHandler) -> None:
    handler = new_handler(small_server(), answer_session_methods=False)
    client = await Client(handler.app).initialize()
    exchange = await client.ask("logging/setLevel", {"level": "warning"})
    assert exchange.messages[0]["error"]["code"] == -32601
