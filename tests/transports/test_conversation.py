"""Running requests and the client, across instances: questions, answers, cancellation, replay, deadlines.

The rules F, G, H and I of the checklist that need more than one request are here, a test for each by name.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import asyncpg
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import EmptyResult, PingRequest

from tests.support.client import Client
from tests.support.talkative import CAPABILITIES, Stage, talkative_server
from tests.support.waiting import eventually
from tmcp_serverless.handshake.addresses import (
    EventId,
    inbox_of,
    inbox_of_question,
    new_run,
    request_id_of,
    request_name,
)
from tmcp_serverless.postgres.identifiers import Namespace

if TYPE_CHECKING:
    from tests.differential.wire import Exchange
    from tests.support.fixtures import NewHandler


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def client(new_handler: NewHandler, stage: Stage) -> Client:
    """A session whose requests go to three instances in turns."""
    apps = [new_handler(talkative_server(stage), retry_milliseconds=10).app for _ in range(3)]
    return await Client(*apps).initialize(capabilities=CAPABILITIES)


def calling(client: Client, tool: str, *, id: Any = 7, progress: Any = None) -> Exchange:
    params: dict[str, Any] = {"name": tool, "arguments": {}}
    if progress is not None:
        params["_meta"] = {"progressToken": progress}
    return client.send("POST", {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})


async def answer(client: Client, question: dict[str, Any], result: dict[str, Any]) -> None:
    posted = await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
    assert posted.status == 202


def text_of(message: dict[str, Any]) -> str:
    return message["result"]["content"][0]["text"]


# Questions: rows 24, 25, 26


async def test_row_24_the_answer_to_a_question_arrives_wherever_it_is_posted(client: Client) -> None:
    for color in ("red", "green", "blue"):
        async with calling(client, "favourite") as exchange:
            question = (await exchange.count(1))[0]
            assert question["method"] == "elicitation/create"
            await answer(client, question, {"action": "accept", "content": {"color": color}})
            assert text_of((await exchange.count(2))[1]) == f"accept {color}"


async def test_row_24_a_refusal_and_an_error_arrive_too(client: Client) -> None:
    async with calling(client, "favourite") as exchange:
        await answer(client, (await exchange.count(1))[0], {"action": "decline"})
        assert text_of((await exchange.count(2))[1]) == "decline "
    async with calling(client, "favourite") as exchange:
        question = (await exchange.count(1))[0]
        error = {"code": -1, "message": "no user here"}
        assert (await client.post({"jsonrpc": "2.0", "id": question["id"], "error": error})).status == 202
        assert (await exchange.count(2))[1]["error"] == error


async def test_several_questions_at_once_each_get_their_own_answer(client: Client) -> None:
    async with calling(client, "several") as exchange:
        questions = await exchange.count(5)
        for question in reversed(questions):
            number = question["params"]["message"][6]
            await answer(client, question, {"action": "accept", "content": {"color": f"c{number}"}})
        assert text_of((await exchange.count(6))[5]) == "c0 c1 c2 c3 c4"


async def test_row_25_an_answer_from_another_session_cannot_reach_the_question(
    client: Client, new_handler: NewHandler, stage: Stage
) -> None:
    stranger = await Client(new_handler(talkative_server(stage)).app).initialize(capabilities=CAPABILITIES)
    async with calling(client, "favourite") as exchange:
        question = (await exchange.count(1))[0]
        await answer(stranger, question, {"action": "accept", "content": {"color": "stolen"}})
        await answer(client, question, {"action": "accept", "content": {"color": "mine"}})
        assert text_of((await exchange.count(2))[1]) == "accept mine"


async def test_row_26_ids_of_questions_are_unguessable_and_carry_their_inbox(client: Client) -> None:
    ids: list[str] = []
    for _ in range(2):
        async with calling(client, "several", id="the request") as exchange:
            for question in (await exchange.count(5))[:5]:
                ids.append(question["id"])
                await answer(client, question, {"action": "decline"})
            await exchange.whole()
    assert len(set(ids)) == 10
    session = client.session or ""
    inboxes = {inbox_of_question(session, id) for id in ids}
    assert inboxes == {f"{session}/in.{request_name('the request')}"}


@pytest.mark.parametrize("id", [0, 1, -5, 2**53, "", "x", "żółć", 'quo"te', "a" * 200, "x\u0000y", "\ud800"])
def test_a_requests_name_fits_into_ids_and_tells_the_id_where_that_is_short(id: Any) -> None:
    name = request_name(id)
    run = new_run()
    assert EventId.parse(f"{name}.{run}:12.0") == EventId(name, run, "12.0")
    if len(str(id)) < 40 and id != "\ud800":
        assert request_id_of(name) == id
        assert type(request_id_of(name)) is type(id)


def test_the_number_and_the_text_of_a_number_are_two_requests() -> None:
    assert request_name(7) != request_name("7")


async def test_an_answer_that_nobody_waits_for_is_taken_and_dropped(client: Client) -> None:
    for id in ("nobody", "r1.000000000000000000000000", 7, "../../etc", f"{request_name(1)}.{'0' * 24}"):
        assert (await client.post({"jsonrpc": "2.0", "id": id, "result": {}})).status == 202
    assert await client.call("change") == "changed"


async def test_g1_a_question_that_relates_to_no_request_is_on_the_standalone_stream(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        async with calling(client, "roots") as exchange:
            question = (await stream.count(1))[0]
            assert question["method"] == "roots/list"
            await answer(client, question, {"roots": [{"uri": "file:///x"}]})
            assert text_of((await exchange.whole()).messages[0]) == "['file:///x']"


async def test_without_a_standalone_stream_it_is_on_the_requests_own(client: Client) -> None:
    async with calling(client, "roots") as exchange:
        question = (await exchange.count(1))[0]
        await answer(client, question, {"roots": []})
        assert text_of((await exchange.count(2))[1]) == "[]"


async def test_a_question_that_is_not_answered_in_time_is_withdrawn(client: Client) -> None:
    async with calling(client, "impatient") as exchange:
        question, withdrawal, result = await exchange.count(3)
        assert withdrawal["method"] == "notifications/cancelled"
        assert withdrawal["params"]["requestId"] == question["id"]
        assert "timed out" in text_of(result)


async def test_progress_of_a_question_reaches_who_asked(new_handler: NewHandler) -> None:
    server = MCPServer("s", log_level="ERROR")
    heard: list[Any] = []

    @server.tool()
    async def sample(ctx: Context) -> str:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))

        await ctx.session.send_request(PingRequest(), EmptyResult, progress_callback=on_progress)
        return "done"

    client = await Client(*(new_handler(server).app for _ in range(2))).initialize()
    async with calling(client, "sample") as exchange:
        question = (await exchange.count(1))[0]
        token = question["params"]["_meta"]["progressToken"]
        progress = {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
        assert (await client.notify("notifications/progress", progress)).status == 202
        await answer(client, question, {})
        await exchange.whole()
    assert heard == [(1.0, 2.0, "half")]


async def test_where_answers_are_delivered_whole_a_question_is_refused_at_once(
    new_handler: NewHandler, stage: Stage
) -> None:
    from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

    app = new_handler(talkative_server(stage)).app
    scope = {"extensions": {PLATFORM_EXTENSION: Platform(streams=False)}}
    client = await Client(app, scope=scope).initialize(capabilities=CAPABILITIES)
    for tool in ("favourite", "roots"):
        exchange = await client.ask("tools/call", {"name": tool, "arguments": {}})
        assert "back-channel" in exchange.messages[0]["error"]["message"]


async def test_where_nothing_can_be_pushed_or_asked_the_capabilities_say_so(
    new_handler: NewHandler,
) -> None:
    from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

    server = MCPServer("s", log_level="ERROR")

    @server.tool()
    async def seen(ctx: Context) -> str:
        capabilities = ctx.client_capabilities
        assert capabilities is not None
        return str(capabilities.model_dump(exclude_none=True))

    async def advertised(*, streams: bool, **options: Any) -> tuple[dict[str, Any], str]:
        scope = {"extensions": {PLATFORM_EXTENSION: Platform(streams=streams)}}
        client = Client(new_handler(server, **options).app, scope=scope)
        params = {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize"}
        exchange = await client.post(
            {**message, "params": {**params, "clientInfo": {"name": "c", "version": "1"}}}
        )
        client.session = exchange.headers["mcp-session-id"]
        return exchange.messages[0]["result"]["capabilities"], await client.call("seen")

    capabilities, seen_by_tool = await advertised(streams=True)
    assert capabilities["tools"]["listChanged"]
    assert capabilities["resources"]["subscribe"]
    assert "elicitation" in seen_by_tool
    capabilities, seen_by_tool = await advertised(streams=False)
    assert capabilities["tools"]["listChanged"], "a buffered GET brings what changed"
    assert "elicitation" not in seen_by_tool
    capabilities, _ = await advertised(streams=False, buffered_wait_seconds=0)
    assert not capabilities["tools"]["listChanged"]
    assert not capabilities["resources"]["subscribe"]


# Cancellation: I1 to I4, row 34


@pytest.mark.parametrize("tool", ["wait", "quiet"])
async def test_row_34_i1_a_cancellation_stops_the_tool_wherever_it_runs(
    client: Client, stage: Stage, tool: str
) -> None:
    async with calling(client, tool, id="c") as exchange:
        await stage.started.wait()
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        async with asyncio.timeout(30):
            await stage.cancelled.wait()
        assert (await exchange.whole()).messages[-1]["error"] == {
            "code": -32800,
            "message": "Request cancelled",
        }


async def test_i1_the_request_that_waits_for_an_answer_is_cancelled_and_its_question_withdrawn(
    client: Client,
) -> None:
    async with calling(client, "favourite", id="c") as exchange:
        question = (await exchange.count(1))[0]
        await client.notify("notifications/cancelled", {"requestId": "c", "reason": "changed my mind"})
        _, withdrawal, error = (await exchange.whole()).messages
        assert withdrawal["params"]["requestId"] == question["id"]
        assert error["error"]["code"] == -32800


@pytest.mark.parametrize("params", [None, {}, {"requestId": None}, {"requestId": [1]}, {"requestId": 99}])
async def test_i2_a_cancellation_of_nothing_is_ignored(client: Client, params: Any) -> None:
    assert (await client.notify("notifications/cancelled", params)).status == 202
    assert await client.call("change") == "changed"


async def test_i2_another_sessions_cancellation_stops_nothing(
    client: Client, new_handler: NewHandler, stage: Stage
) -> None:
    stranger = await Client(new_handler(talkative_server(stage)).app).initialize()
    async with calling(client, "quiet", id="c") as exchange:
        await stage.started.wait()
        await stranger.notify("notifications/cancelled", {"requestId": "c"})
        await client.call("change")
        stage.go_on.set()
        assert text_of((await exchange.whole()).messages[-1]) == "done"


async def test_i4_a_cancellation_that_comes_too_late_changes_nothing(client: Client, stage: Stage) -> None:
    stage.go_on.set()
    async with calling(client, "quiet", id="c") as exchange:
        assert text_of((await exchange.whole()).messages[0]) == "done"
    assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
    assert await client.call("change") == "changed"


async def test_i4_a_cancellation_that_overtakes_its_request_stops_it(client: Client) -> None:
    await client.notify("notifications/cancelled", {"requestId": "c"})
    async with calling(client, "quiet", id="c") as exchange:
        assert (await exchange.whole()).messages[-1]["error"]["code"] == -32800


async def test_i4_a_cancellation_of_long_ago_spares_a_request_that_uses_the_id_again(
    client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A client that goes on with its session in a new process may well count from 0 again.
    monkeypatch.setattr("tmcp_serverless.handshake.inbox._STARTING_SECONDS", 0.0)
    await client.notify("notifications/cancelled", {"requestId": "c", "receivedAt": time.time() + 60})
    async with calling(client, "quiet", id="c") as exchange:
        await stage.started.wait()
        await asyncio.sleep(0.5)  # Long enough for the request to open its inbox, and read it.
        stage.go_on.set()
        assert text_of((await exchange.whole()).messages[-1]) == "done"


async def test_i5_progress_stops_with_the_answer(client: Client, stage: Stage) -> None:
    stage.go_on.set()
    async with calling(client, "wait", progress="t") as exchange:
        messages = (await exchange.whole()).messages
    assert [message.get("params", {}).get("progress") for message in messages] == [1, 2, None]


async def test_i6_ping_is_answered_with_nothing(client: Client) -> None:
    assert await client.result("ping") == {}


async def test_deleting_the_session_stops_what_runs_in_it(client: Client, stage: Stage) -> None:
    async with calling(client, "quiet") as exchange:
        await stage.started.wait()
        await asyncio.sleep(0.2)  # A request listens once it lasts.
        assert (await client.delete()).status == 200
        async with asyncio.timeout(30):
            await stage.cancelled.wait()
        await exchange.whole()


# Replay: F1 to F3, H1 to H5, row 29


async def test_f1_a_stream_begins_with_an_id(client: Client, stage: Stage) -> None:
    stage.go_on.set()
    async with calling(client, "wait", progress=1) as exchange:
        await exchange.whole()
    assert len(exchange.ids) == 4, "the priming event, two of progress, and the answer"
    assert len(set(exchange.ids)) == 4


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_f1_older_clients_get_no_empty_event(
    new_handler: NewHandler, stage: Stage, version: str
) -> None:
    stage.go_on.set()
    client = await Client(new_handler(talkative_server(stage)).app, version=version).initialize()
    async with calling(client, "wait", progress=1) as exchange:
        await exchange.whole()
    assert exchange.ids == []
    assert len(exchange.messages) == 3


async def test_h3_h5_a_requests_stream_that_was_cut_is_resumed_on_any_instance(
    client: Client, stage: Stage
) -> None:
    async with calling(client, "wait", progress="p") as exchange:
        await exchange.count(1)
        exchange.leave()
        last = exchange.ids[-1]
        async with client.listen(last_event_id=last) as resumed:
            await resumed.begun()
            stage.go_on.set()
            messages = (await resumed.whole()).messages
        assert messages[0]["params"]["progress"] == 2
        assert text_of(messages[1]) == "done"
    async with client.listen(last_event_id=last) as again:
        assert (await again.whole()).messages == messages


async def test_h3_resuming_behind_the_priming_event_gives_everything(client: Client, stage: Stage) -> None:
    stage.go_on.set()
    async with calling(client, "wait", progress="p") as exchange:
        whole = (await exchange.whole()).messages
    async with client.listen(last_event_id=exchange.ids[0]) as resumed:
        assert (await resumed.whole()).messages == whole


async def test_h1_h2_event_ids_are_unique_over_all_streams_and_name_theirs(
    client: Client, stage: Stage
) -> None:
    stage.go_on.set()
    ids: list[str] = []
    async with client.listen() as stream:
        await stream.begun()
        for number in range(3):
            async with calling(client, "wait", id=number, progress="p") as exchange:
                await exchange.whole()
            ids += exchange.ids
            await client.call("change")
        await stream.count(3)
        ids += stream.ids
    assert len(set(ids)) == len(ids) == 16
    assert EventId.parse(ids[0]) is not None
    assert EventId.parse(stream.ids[0]) is None


async def test_h4_what_is_replayed_is_of_that_stream_only(client: Client, stage: Stage) -> None:
    stage.go_on.set()
    async with calling(client, "wait", id="one", progress="one") as one:
        await one.whole()
    async with calling(client, "wait", id="two", progress="two") as two:
        await two.whole()
    await client.call("change")
    async with client.listen(last_event_id=one.ids[0]) as resumed:
        messages = (await resumed.whole()).messages
    assert [message.get("id", "-") for message in messages] == ["-", "-", "one"]
    assert {message["params"]["progressToken"] for message in messages[:2]} == {"one"}


async def test_row_29_an_event_id_of_another_session_gives_none_of_its_bytes(
    client: Client, new_handler: NewHandler, stage: Stage
) -> None:
    stage.go_on.set()
    async with calling(client, "wait", id=1, progress="secret") as exchange:
        await exchange.whole()
    stranger = await Client(new_handler(talkative_server(stage), stream_max_seconds=0.5).app).initialize()
    for id in exchange.ids:
        async with stranger.listen(last_event_id=id) as stolen:
            await stolen.whole()
        assert "secret" not in str(stolen.messages)
        assert all("error" in message for message in stolen.messages)


async def test_f2_f3_a_tool_may_end_its_connection_and_the_client_comes_back(
    client: Client, stage: Stage
) -> None:
    async with calling(client, "let_go", progress="p") as exchange:
        await exchange.until(lambda: stage.started.is_set() and len(exchange.messages) == 1)
        await stage.started.wait()
        async with client.listen(last_event_id=exchange.ids[-1]) as resumed:
            await resumed.begun()
            stage.go_on.set()
            messages = (await resumed.whole()).messages
        assert [message.get("params", {}).get("progress") for message in messages] == [2, None]
        assert len((await exchange.whole()).messages) == 1


async def test_f3_a_tool_may_end_the_standalone_stream_too(client: Client) -> None:
    async with client.listen() as stream:
        await stream.begun()
        assert await client.call("part") == "parted"
        await stream.whole()
    await client.call("change")
    async with client.listen() as again:
        assert len(await again.count(1)) == 1


async def test_f8_the_answer_of_a_request_whose_client_left_can_be_fetched(
    client: Client, stage: Stage
) -> None:
    async with calling(client, "wait", progress="p") as exchange:
        await exchange.count(1)
        last = exchange.ids[-1]
        exchange.leave()
        stage.go_on.set()
        await stage.finished.wait()
    async with client.listen(last_event_id=last) as resumed:
        assert text_of((await resumed.whole()).messages[-1]) == "done"
    async with client.listen(last_event_id=resumed.ids[-1]) as again:
        assert ((await again.whole()).status, again.messages) == (204, [])


async def test_replay_can_be_switched_off(new_handler: NewHandler, stage: Stage) -> None:
    stage.go_on.set()
    client = await Client(new_handler(talkative_server(stage), replay=False).app).initialize()
    async with client.listen() as stream:
        await stream.begun()
        await client.call("change")
        await stream.count(1)
        assert stream.ids == []
    async with calling(client, "wait", progress=1) as exchange:
        await exchange.whole()
    assert exchange.ids == []


@pytest.mark.parametrize("ended_by", ["its time", "draining", "the tool"])
async def test_where_no_standalone_stream_is_served_a_requests_own_is_resumed_all_the_same(
    new_handler: NewHandler, stage: Stage, ended_by: str
) -> None:
    options: dict[str, Any] = {"stream_max_seconds": 0.3} if ended_by == "its time" else {}
    handler = new_handler(talkative_server(stage), disable_sse=True, defer_seconds=0.1, **options)
    client = await Client(handler.app).initialize()
    async with calling(client, "let_go" if ended_by == "the tool" else "wait", progress="p") as exchange:
        await exchange.count(1)
        if ended_by == "draining":
            await handler.drain()
        await exchange.until(lambda: exchange.body_ended)
        stage.go_on.set()
        await exchange.whole()
    async with client.listen(last_event_id=exchange.ids[-1]) as resumed:
        assert text_of((await resumed.whole()).messages[-1]) == "done"
    for standalone in (None, "1.0"):
        async with client.listen(last_event_id=standalone) as refused:
            assert (await refused.whole()).status == 405
            assert refused.headers["allow"] == "POST, DELETE, OPTIONS"


async def test_a_requests_stream_is_resumed_where_replay_has_been_switched_off_since(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = await Client(new_handler(talkative_server(stage)).app).initialize()
    later = Client(new_handler(talkative_server(stage), replay=False).app)
    later.session = client.session
    async with client.listen() as standalone, calling(client, "wait", progress="p") as exchange:
        await standalone.begun()
        await exchange.count(1)
        async with later.listen(last_event_id=exchange.ids[-1]) as resumed:
            await resumed.begun()
            stage.go_on.set()
            assert text_of((await resumed.whole()).messages[-1]) == "done"
        await client.call("change")
        assert len(await standalone.count(1)) == 1, "nobody has taken it over"


async def test_a_request_that_nobody_runs_any_more_is_answered_with_an_error(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    handler = new_postgres_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    async with calling(client, "wait", id=41, progress="p") as exchange:
        await exchange.count(1)
        last = exchange.ids[-1]
        inbox = inbox_of(client.session or "", request_name(41))

        async def listening() -> bool:
            return await handler.managers.streams.has(inbox)

        await eventually(listening)
        # What a killed instance leaves behind: a lease that nobody refreshes.
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "UPDATE tmcp_sessions SET holder = 'dead', updated_at = now() - interval '1 min' WHERE id = $1",
            Namespace(handler.managers.namespace or "").key(inbox),
        )
        await connection.close()
        async with client.listen(last_event_id=last) as resumed:
            message = (await resumed.whole()).messages[-1]
        assert message["id"] == 41
        assert "gone" in message["error"]["message"]
        stage.go_on.set()


# Deadlines


async def test_streams_end_before_the_host_does_and_go_on_elsewhere(
    new_handler: NewHandler, stage: Stage
) -> None:
    from tmcp_serverless.http import PLATFORM_EXTENSION, Platform

    app = new_handler(talkative_server(stage), defer_seconds=0.1, retry_milliseconds=10).app
    client = await Client(app).initialize()
    short = Client(
        app,
        scope={"extensions": {PLATFORM_EXTENSION: Platform(deadline=time.monotonic() + 2.5)}},
        version="2025-11-25",
    )
    short.session = client.session
    async with calling(short, "wait", progress="p") as exchange, short.listen() as stream:
        await exchange.until(lambda: "retry" in str(exchange.ids) or bool(exchange.ids))
        await stream.whole()
        assert stream.ended

        async def connection_ended() -> bool:
            return exchange.body_ended

        await eventually(connection_ended)
        async with client.listen(last_event_id=exchange.ids[-1]) as resumed:
            await resumed.begun()
            stage.go_on.set()
            assert text_of((await resumed.whole()).messages[-1]) == "done"


async def test_f6_a_stream_that_cannot_be_resumed_is_not_closed_before_its_answer(
    new_handler: NewHandler, stage: Stage
) -> None:
    app = new_handler(talkative_server(stage), defer_seconds=0.05, stream_max_seconds=0.2).app
    client = await Client(app, version="2025-06-18").initialize()
    async with calling(client, "wait", progress="p") as exchange:
        await exchange.count(1)
        await asyncio.sleep(0.5)  # Longer than a stream may last that could be resumed.
        assert not exchange.body_ended
        stage.go_on.set()
        assert text_of((await exchange.whole()).messages[-1]) == "done"


async def test_g4_a_client_may_hold_several_streams_at_once(client: Client, stage: Stage) -> None:
    async with (
        client.listen() as standalone,
        calling(client, "wait", id=1, progress="one") as one,
        calling(client, "wait", id=2, progress="two") as two,
    ):
        await standalone.begun()
        await one.count(1)
        await two.count(1)
        await client.call("change")
        await standalone.count(1)
        stage.go_on.set()
        for stream, token in ((one, "one"), (two, "two")):
            messages = (await stream.whole()).messages
            assert {message["params"]["progressToken"] for message in messages[:-1]} == {token}
        assert [message["method"] for message in standalone.messages] == ["notifications/tools/list_changed"]


async def test_i3_initialize_is_not_cancelled(new_handler: NewHandler, stage: Stage) -> None:
    client = await Client(new_handler(talkative_server(stage)).app).initialize()
    assert (await client.notify("notifications/cancelled", {"requestId": 0})).status == 202
    assert await client.result("ping") == {}


async def test_draining_ends_streams_that_go_on_at_another_instance(
    new_handler: NewHandler, stage: Stage
) -> None:
    first, second = (new_handler(talkative_server(stage), retry_milliseconds=10) for _ in range(2))
    here = await Client(first.app).initialize()
    there = Client(second.app)
    there.session = here.session
    async with here.listen() as stream, calling(here, "wait", progress="p") as exchange:
        await stream.begun()
        await exchange.count(1)
        await first.drain()
        await stream.whole()

        async def connection_ended() -> bool:
            return exchange.body_ended

        await eventually(connection_ended)
        async with there.listen() as again, there.listen(last_event_id=exchange.ids[-1]) as resumed:
            await again.begun()
            await resumed.begun()
            stage.go_on.set()
            await there.call("change")
            assert len(await again.count(1)) == 1
            assert text_of((await resumed.whole()).messages[-1]) == "done"


@pytest.mark.parametrize("step", ["loaded", "opened"])
async def test_draining_ends_a_stream_that_is_just_being_opened(
    new_handler: NewHandler, stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    handler = new_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    manager, method = {
        "loaded": (handler.managers.info, "load"),
        "opened": (handler.managers.streams, "create"),
    }[step]
    do, begun, drained = getattr(manager, method), asyncio.Event(), asyncio.Event()

    async def held(*args: Any, **options: Any) -> Any:
        begun.set()
        await drained.wait()
        return await do(*args, **options)

    monkeypatch.setattr(manager, method, held)
    async with client.listen() as stream:
        await begun.wait()
        await handler.drain()
        drained.set()
        assert (await stream.whole()).status == 200
    assert not await handler.managers.streams.has(client.session or "")


async def test_a_stream_whose_broadcasts_have_expired_is_told_that_the_lists_changed(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    handler = new_postgres_handler(talkative_server(stage))
    client = await Client(handler.app).initialize()
    await handler.notifier.tools_changed()
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM tmcp_messages")
    await connection.close()
    async with client.listen() as stream:
        methods = {message["method"] for message in await stream.count(3)}
    kinds = ("tools", "prompts", "resources")
    assert methods == {f"notifications/{kind}/list_changed" for kind in kinds}


async def test_a_resumed_request_whose_events_have_expired_is_answered_with_an_error(
    new_postgres_handler: NewHandler, stage: Stage, database_url: str
) -> None:
    stage.go_on.set()
    client = await Client(new_postgres_handler(talkative_server(stage)).app).initialize()
    async with calling(client, "wait", id=5, progress="p") as exchange:
        await exchange.whole()
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM tmcp_messages")
    await connection.close()
    async with client.listen(last_event_id=exchange.ids[1]) as resumed:
        message = (await resumed.whole()).messages[-1]
    assert message["id"] == 5
    assert "expired" in message["error"]["message"]


async def test_h3_a_resumed_stream_begins_with_a_new_id_of_the_place_that_the_client_came_with(
    new_handler: NewHandler, stage: Stage
) -> None:
    """Clients of both TypeScript generations know the last id of the current connection only.

    The Go SDK's gives up where that was the last one's too.
    """
    app = new_handler(talkative_server(stage), stream_max_seconds=0.3, defer_seconds=0.05).app
    client = await Client(app).initialize()
    async with calling(client, "wait", progress="p") as exchange:
        await exchange.count(1)
        last = exchange.ids[-1]
        for _ in range(3):
            async with client.listen(last_event_id=last) as resumed:
                await resumed.whole()
            assert resumed.ids == [ANY]
            assert resumed.ids[0].partition("@")[0] == last.partition("@")[0]
            assert resumed.ids[0] != last
            last = resumed.ids[-1]
        stage.go_on.set()
        async with client.listen(last_event_id=last) as resumed:
            assert text_of((await resumed.whole()).messages[-1]) == "done"


async def test_what_was_written_to_a_dying_connection_is_not_lost_before_the_first_event(
    client: Client,
) -> None:
    async with client.listen() as stream:
        await stream.until(lambda: bool(stream.ids))
        start = stream.ids[0]
        for _ in range(3):
            await client.call("change")
        await stream.count(3)
    async with client.listen(last_event_id=start) as again:
        assert len(await again.count(3)) == 3
