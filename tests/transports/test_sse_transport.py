"""HTTP+SSE of 2024-11-05 on several instances: rules M of the checklist by name, and a session's life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import Client
from tests.support.sse_client import SseClient, text_of
from tests.support.sse_fixtures import INITIALIZE, PING, client, handlers, stage
from tests.support.talkative import Stage, talkative_server
from tmcp_serverless import (
    Handler,
    HttpSseTransport,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
)

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler

__all__ = ["client", "handlers", "stage"]


# The rules M


async def test_m1_a_foreign_origin_is_403_on_both_endpoints(handlers: list[Handler]) -> None:
    async with SseClient(handlers[0].app) as client:
        for path, verb in (("/sse", "GET"), (client.path, "POST"), ("/sse", "OPTIONS")):
            client.path = path
            async with client.send(verb, PING, origin="https://evil.example") as refused:
                await refused.whole()
            assert refused.status == 403
        async with client.send("POST", PING, origin="http://127.0.0.1:3000") as accepted:
            await accepted.whole()
        client.path = "/sse"
        async with client.send("GET", origin="http://127.0.0.1:3000") as stream:
            assert (await stream.begun()).status == 200
            stream.leave()
            await stream.whole()


async def test_m1_the_transport_checks_by_itself(stage: Stage) -> None:
    managers = SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager())
    transport = HttpSseTransport(talkative_server(stage), session_manager=managers)
    client = SseClient(transport)
    async with client.send("GET", origin="https://evil.example") as refused:
        assert (await refused.whole()).status == 403
    async with client:
        assert await client.result("ping") == {}


async def test_m2_there_are_two_endpoints_each_with_its_method(handlers: list[Handler]) -> None:
    client = Client(handlers[0].app)
    for path, allowed in (("/sse", "GET"), ("/message", "POST"), ("/message/", "POST")):
        client.path = path
        for verb in {"GET", "POST", "PUT", "DELETE"} - {allowed}:
            async with client.send(verb, PING) as refused:
                await refused.whole()
            assert (refused.status, refused.headers["allow"]) == (405, f"{allowed}, OPTIONS")
        async with client.send("OPTIONS") as options:
            assert ((await options.whole()).status, options.headers["allow"]) == (204, f"{allowed}, OPTIONS")


async def test_m3_the_first_event_says_where_to_post(handlers: list[Handler]) -> None:
    for _ in range(5):
        async with SseClient(handlers[0].app) as client, asyncio.TaskGroup() as group:
            group.create_task(handlers[1].notifier.tools_changed())
            assert client.stream.kinds[0] == "endpoint"
            assert client.path.startswith("/message?session_id=sse-")
            assert client.stream.headers["content-type"] == "text/event-stream"
            assert "mcp-session-id" not in client.stream.headers


@pytest.mark.parametrize(("root", "prefix"), [("/prod", "/prod"), ("/my server/", "/my%20server")])
async def test_m3_the_endpoint_is_below_the_path_that_the_application_is_mounted_at(
    new_handler: NewHandler, stage: Stage, root: str, prefix: str
) -> None:
    app = new_handler(talkative_server(stage), message_path="/posts/").app
    client = SseClient(app, scope={"root_path": root.rstrip("/")}, path=f"{root.rstrip('/')}/sse")
    async with client:
        assert client.path.startswith(f"{prefix}/posts?session_id=")
        client.path = client.path.replace("%20", " ")
        assert await client.result("ping") == {}


async def test_m4_what_comes_of_a_post_is_on_the_stream_wherever_the_post_lands(client: SseClient) -> None:
    for number in range(6):
        assert await client.call("big", size=number) == "x" * number
    assert set(client.stream.kinds) == {"endpoint", "message"}
    assert client.stream.ids == [], "the revision has no event ids"


async def test_m5_both_endpoints_are_next_to_the_mcp_endpoint(handlers: list[Handler]) -> None:
    app = handlers[0].app
    newer = await Client(app).initialize()
    async with SseClient(app) as older:
        await older.initialize()
        assert await newer.call("change") == "changed"
        assert await older.call("change") == "changed"


async def test_m6_a_client_that_tries_to_initialize_by_post_is_told_to_fall_back(
    handlers: list[Handler],
) -> None:
    client = SseClient(handlers[0].app)
    refused = await client.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE})
    assert refused.status == 405
    async with client:
        await client.initialize()


# Posts


async def test_the_202_comes_before_the_tool_runs_and_the_answer_after_it(
    client: SseClient, stage: Stage
) -> None:
    async with client.calling("quiet") as posted:
        await posted.until(lambda: posted.body_ended)
        assert (posted.status, posted.text) == (202, "Accepted")
        async with asyncio.timeout(30):
            await stage.started.wait()
        assert not posted.ended, "the host keeps the invocation for as long as the tool runs"
        assert client.stream.messages[-1].get("id") != 7
        stage.go_on.set()
        assert text_of(await client.answered(7)) == "done"


async def test_a_client_that_goes_before_the_202_is_answered_on_the_stream(
    handlers: list[Handler], stage: Stage
) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        async def refuse(_: Any) -> None:
            raise BrokenPipeError

        await handlers[1].app(scope, receive, refuse if scope["method"] == "POST" else send)

    stage.go_on.set()
    async with SseClient(handlers[0].app, handlers[0].app, handlers[0].app, deaf) as client:
        await client.initialize()
        async with client.calling("quiet"):
            assert text_of(await client.answered(7)) == "done"


@pytest.mark.parametrize("size", [8_000, 1_000_000])
async def test_an_answer_arrives_whatever_its_size(client: SseClient, size: int) -> None:
    assert len(await client.call("big", size=size)) == size


async def test_progress_and_logs_come_in_order_and_before_the_answer(client: SseClient) -> None:
    async with client.calling("spell"):
        assert text_of(await client.answered(7)) == "spelled"
    progress = [message["params"]["progress"] for message in client.stream.messages if "method" in message]
    assert progress == list(range(20))
    assert "id" in client.stream.messages[-1]


async def test_a_message_that_is_none_is_refused_as_on_the_other_transport(client: SseClient) -> None:
    for body in (b"{", b'"x"', b"{}", b"[]", b"\xff"):
        exchange = await client.post(body)
        assert (exchange.status, "error" in exchange.messages[0]) == (400, True), body
    assert (await client.post(PING, content_type="text/plain")).status == 400
    assert (await client.post(PING, mcp_protocol_version="2026-07-28")).status == 400
    assert (await client.post(PING, mcp_protocol_version="2025-11-25")).status == 202
    assert (await client.post(PING, accept=None)).status == 202, "the revision says nothing of Accept"


async def test_a_body_that_is_too_long_is_413(new_handler: NewHandler, stage: Stage) -> None:
    async with SseClient(new_handler(talkative_server(stage), max_body_bytes=100).app) as client:
        assert (await client.post(b" " * 101)).status == 413


async def test_a_batch_is_taken_at_the_one_revision_that_has_them(handlers: list[Handler]) -> None:
    async with SseClient(*(handler.app for handler in handlers), version="2025-03-26") as client:
        await client.initialize()
        changed = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        assert (await client.post([{**PING, "id": "a"}, changed, {**PING, "id": "b"}])).status == 202
        for id in ("a", "b"):
            assert (await client.answered(id))["result"] == {}
        assert (await client.post([changed])).status == 202
        for refused in ([], [{**PING, "method": "initialize", "params": INITIALIZE}]):
            assert (await client.post(refused)).status == 400
    async with SseClient(handlers[0].app) as client:
        await client.initialize()
        assert (await client.post([PING])).status == 400


async def test_every_request_is_answered_even_if_it_cannot_be_run(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tmcp_serverless.handshake.runner import MessageRunner

    async def fail(*_: Any) -> bytes:
        raise RuntimeError("the server's lifespan failed")

    async with SseClient(new_handler(talkative_server(stage)).app) as client:
        await client.initialize()
        monkeypatch.setattr(MessageRunner, "_run", fail)
        assert (await client.answer("ping"))["error"]["code"] == -32603


# Questions and cancellation


async def test_a_question_comes_on_the_stream_and_its_answer_may_be_posted_anywhere(
    client: SseClient,
) -> None:
    for number, color in enumerate(("red", "green", "blue")):
        async with client.calling("favourite", id=number):
            question = (await client.asked(number=number + 1))[-1]
            assert question["method"] == "elicitation/create"
            await client.respond(question, {"action": "accept", "content": {"color": color}})
            assert text_of(await client.answered(number)) == f"accept {color}"


async def test_several_questions_at_once_each_get_their_own_answer(client: SseClient) -> None:
    async with client.calling("several"):
        for question in reversed(await client.asked(number=5)):
            number = question["params"]["message"][6]
            await client.respond(question, {"action": "accept", "content": {"color": f"c{number}"}})
        assert text_of(await client.answered(7)) == "c0 c1 c2 c3 c4"


async def test_a_question_that_relates_to_no_request_comes_the_same_way(client: SseClient) -> None:
    async with client.calling("roots"):
        [question] = await client.asked()
        await client.respond(question, {"roots": [{"uri": "file:///x"}]})
        assert text_of(await client.answered(7)) == "['file:///x']"


async def test_a_question_that_is_not_answered_in_time_is_withdrawn(client: SseClient) -> None:
    async with client.calling("impatient"):
        assert "timed out" in text_of(await client.answered(7))
    [question] = await client.asked()
    [withdrawn] = await client.told("notifications/cancelled")
    assert withdrawn["params"]["requestId"] == question["id"]


async def test_another_sessions_answer_reaches_no_question(
    client: SseClient, handlers: list[Handler]
) -> None:
    apps = [handler.app for handler in handlers]
    async with SseClient(*apps) as stranger, client.calling("favourite"):
        await stranger.initialize()
        [question] = await client.asked()
        await stranger.respond(question, {"action": "accept", "content": {"color": "stolen"}})
        await client.respond(question, {"action": "accept", "content": {"color": "mine"}})
        assert text_of(await client.answered(7)) == "accept mine"


@pytest.mark.parametrize("tool", ["wait", "quiet"])
async def test_a_cancellation_stops_the_tool_wherever_it_runs(
    client: SseClient, stage: Stage, tool: str
) -> None:
    async with client.calling(tool, id="c"):
        await stage.started.wait()
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        async with asyncio.timeout(30):
            await stage.cancelled.wait()
        assert (await client.answered("c"))["error"]["code"] == -32800


# Notifications


async def test_updates_broadcasts_and_the_tools_own_words_reach_the_session_once(
    client: SseClient, handlers: list[Handler]
) -> None:
    await client.result("resources/subscribe", {"uri": "note://one"})
    for handler in handlers:
        await handler.notifier.resource_updated("note://one")
        await handler.notifier.resource_updated("note://two")
        await handler.notifier.prompts_changed()
    await client.call("change")
    await client.result("resources/unsubscribe", {"uri": "note://one"})
    await handlers[0].notifier.resource_updated("note://one")
    await handlers[0].notifier.send([client.id], {"method": "last"})
    await client.told("last")
    await client.told("notifications/prompts/list_changed", number=3)
    assert sorted(client.methods) == [
        "last",
        *["notifications/prompts/list_changed"] * 3,
        *["notifications/resources/updated"] * 3,
        "notifications/tools/list_changed",
    ]


async def test_the_level_that_is_set_on_one_instance_holds_on_the_others(client: SseClient) -> None:
    await client.result("logging/setLevel", {"level": "warning"})
    for _ in range(3):
        await client.call("log")
    levels = [message["params"]["level"] for message in client.stream.messages if "method" in message]
    assert levels == ["warning"] * 3
