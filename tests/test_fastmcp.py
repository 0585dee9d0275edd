"""FastMCP 4.x through the kit: what it has of its own works on every instance, in both eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import FastMCP
from fastmcp.server.context import _current_transport  # pyright: ignore[reportPrivateUsage]
from fastmcp.tools import Tool
from key_value.aio.stores.memory import MemoryStore

from tests.support.client import Client
from tests.support.fast_server import NOTE, Stage, fast_server, order
from tests.support.modern import META, ModernClient, methods
from tests.support.sse_client import SseClient
from tests.support.sse_client import text_of as text_of_answer
from tmcp_serverless.sdk.guard import guarded

if TYPE_CHECKING:
    from tests.support.fixtures import NewHandler
    from tmcp_serverless import Handler

TALK = {"name": "talk", "arguments": {}, "_meta": {"progressToken": "t", f"{META}/logLevel": "info"}}


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def handlers(new_postgres_handler: NewHandler, stage: Stage) -> list[Handler]:
    """Three instances over one database, each with a server of its own, as three processes have."""
    return [new_postgres_handler(fast_server(stage)) for _ in range(3)]


@pytest.fixture
def modern(handlers: list[Handler]) -> ModernClient:
    return ModernClient(*(handler.app for handler in handlers))


async def legacy_client(handlers: list[Handler]) -> Client:
    capabilities: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
    return await Client(*(handler.app for handler in handlers)).initialize(capabilities=capabilities)


def text_of(result: dict[str, Any]) -> str:
    return result["content"][0]["text"]


ANSWERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "order": [
        ("elicitation/create", {"action": "accept", "content": {"value": "soup"}}),
        ("elicitation/create", {"action": "accept", "content": {"value": True}}),
    ],
    "compose": [
        (
            "sampling/createMessage",
            {"role": "assistant", "content": {"type": "text", "text": "oak"}, "model": "m"},
        ),
        ("roots/list", {"roots": [{"uri": "file:///home"}]}),
    ],
}
TOLD = {"order": "accept: soup, True", "compose": "oak at file:///home"}


# Lifespan, middleware, context


async def test_the_lifespan_is_entered_once_in_a_process_and_tools_see_what_it_yields(
    handlers: list[Handler], modern: ModernClient, stage: Stage
) -> None:
    legacy = await legacy_client(handlers)
    for _ in range(3):
        assert (await legacy.call("database")).startswith("connection ")
        assert text_of(await modern.call("database")).startswith("connection ")
    assert (stage.entered, stage.left) == (3, 0)
    for handler in handlers:
        await handler.aclose()
    assert stage.left == 3


async def test_middleware_runs_around_tools_and_lists_in_both_eras(
    handlers: list[Handler], modern: ModernClient, stage: Stage
) -> None:
    assert text_of(await modern.call("add", a=1, b=2)) == "21"
    assert "secret" not in [tool["name"] for tool in (await modern.result("tools/list"))["tools"]]
    await modern.result("server/discover")
    # The SDK lists the tools itself before it calls one, to know of headers that belong to arguments.
    assert [seen for seen in stage.seen if seen != "message tools/list"] == [
        "message tools/call",
        "tool add",
        "message server/discover",
    ]
    stage.seen.clear()
    legacy = await legacy_client(handlers)
    assert await legacy.call("add", a=1, b=2) == "21"
    assert "secret" not in [tool["name"] for tool in (await legacy.result("tools/list"))["tools"]]
    assert stage.seen == [
        "message initialize",
        "message notifications/initialized",
        "message tools/call",
        "tool add",
        "message tools/list",
    ]


@pytest.mark.parametrize("root", ["", "/api", "/api/"])
async def test_the_transport_is_known_below_any_root_path(root: str) -> None:
    said: list[str | None] = []

    async def app(*_: Any) -> None:
        said.append(_current_transport.get())

    around = guarded(FastMCP("x"), app, path="/mcp", extra_paths=("/sse",))
    for path in ("/sse", "/sse/", "/mcp"):
        scope = {"type": "http", "path": f"{root.rstrip('/')}{path}", "root_path": root}
        await around(scope, _nothing, _nothing)
    assert said == ["sse", "sse", "streamable-http"]


async def _nothing(*_: Any) -> Any: ...


async def test_a_tool_knows_by_which_transport_it_was_called(
    handlers: list[Handler], modern: ModernClient
) -> None:
    assert text_of(await modern.call("transport")) == "streamable-http"
    assert await (await legacy_client(handlers)).call("transport") == "streamable-http"
    async with SseClient(*(handler.app for handler in handlers)) as sse:
        await sse.initialize()
        answer = await sse.answer("tools/call", {"name": "transport", "arguments": {}})
        assert text_of_answer(answer) == "sse"


async def test_what_one_client_hides_from_itself_the_others_still_see(
    handlers: list[Handler], modern: ModernClient
) -> None:
    """A FastMCP that is not told its transport takes all modern requests for those of one client."""
    for _ in handlers:
        await modern.ask("tools/call", {"name": "hide", "arguments": {}})
    legacy = await legacy_client(handlers)
    for _ in handlers:
        assert text_of(await modern.call("add", a=1, b=1)) == "11"
        assert await legacy.call("add", a=1, b=1) == "11"


async def test_a_sessions_state_is_where_the_server_keeps_it(
    new_postgres_handler: NewHandler, stage: Stage
) -> None:
    shared = MemoryStore()  # In a deployment: one of py-key-value's stores over a database.
    handlers = [new_postgres_handler(fast_server(stage, session_state_store=shared)) for _ in range(3)]
    ann, bob = await legacy_client(handlers), await legacy_client(handlers)
    await ann.call("remember", word="blue")
    for _ in handlers:
        assert await ann.call("recall") == "blue"
        assert await bob.call("recall") == "None"


# What a tool says and asks


async def test_progress_and_logs_reach_a_client_of_either_era(
    handlers: list[Handler], modern: ModernClient
) -> None:
    legacy = await legacy_client(handlers)
    for client in (modern, legacy):
        exchange = await client.ask("tools/call", TALK)
        assert methods(exchange) == ["notifications/message", "notifications/progress", "result"]
        log, progress, answer = exchange.messages
        assert (log["params"]["level"], log["params"]["data"]["msg"]) == ("info", "halfway")
        said = {"progressToken": "t", "progress": 1, "total": 2, "message": "one of two"}
        assert {name: progress["params"][name] for name in said} == said
        assert text_of(answer["result"]) == "done"


@pytest.mark.parametrize("tool", ["order", "compose"])
async def test_a_modern_client_is_asked_by_way_of_results(modern: ModernClient, tool: str) -> None:
    asked = await modern.call(tool)
    for method, answer in ANSWERS[tool]:
        ((key, question),) = asked["inputRequests"].items()
        assert question["method"] == method
        asked = (await modern.answer(asked, {key: answer}, tool)).messages[-1]["result"]
    assert text_of(asked) == TOLD[tool]


@pytest.mark.parametrize("tool", ["order", "compose"])
async def test_the_same_tools_ask_a_client_of_the_handshake_era_while_they_run(
    handlers: list[Handler], tool: str
) -> None:
    client = await legacy_client(handlers)
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    async with client.send("POST", call) as exchange:
        for number, (method, answer) in enumerate(ANSWERS[tool], start=1):
            question = (await exchange.count(number))[-1]
            assert question["method"] == method
            await client.post({"jsonrpc": "2.0", "id": question["id"], "result": answer})
        await exchange.whole()
    assert text_of(exchange.messages[-1]["result"]) == TOLD[tool]


@pytest.mark.parametrize("tool", ["annex_order", "annex_cellar_order", "dine"])
async def test_a_tool_that_stands_for_another_one_asks_too(
    new_postgres_handler: NewHandler, tool: str
) -> None:
    """As those of mounted servers do, and those that were transformed."""

    def house() -> FastMCP[Any]:
        cellar, annex, house = (FastMCP[Any](name) for name in ("cellar", "annex", "house"))
        for server in (cellar, annex):
            server.tool(order)
        annex.mount(cellar, "cellar")
        house.mount(annex, "annex")
        house.add_tool(Tool.from_tool(order, name="dine"))
        return house

    client = ModernClient(*(new_postgres_handler(house()).app for _ in range(2)))
    asked = await client.call(tool)
    for _, answer in ANSWERS["order"]:
        (key,) = asked["inputRequests"]
        asked = (await client.answer(asked, {key: answer}, tool)).messages[-1]["result"]
    assert text_of(asked) == TOLD["order"]


async def test_servers_without_a_name_open_each_others_states(handlers: list[Handler]) -> None:
    """Without a name a FastMCP makes one up, another one in every process, and binds its states to it."""
    first, second = (ModernClient(handler.app) for handler in handlers[:2])
    asked = await first.call("guarded")
    assert "step one" not in asked["requestState"]
    day = {"day": {"action": "accept", "content": {"day": "Monday"}}}
    told = await second.answer(asked, day, "guarded")
    assert text_of(told.messages[-1]["result"]) == "step one, Monday"


async def test_why_it_cannot_be_told_whether_a_tool_is_replayable_is_logged(
    modern: ModernClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with the tool is said by whoever runs it."""

    async def broken(*_: Any, **__: Any) -> None:
        raise LookupError("the tools are away")

    caplog.set_level("DEBUG", logger="tmcp_serverless.modern.replay")
    monkeypatch.setattr(FastMCP, "get_tool", broken)
    await modern.ask("tools/call", {"name": "order", "arguments": {}})
    assert "cannot tell whether 'order' is replayable: LookupError('the tools are away')" in caplog.text


# Subscriptions


async def test_it_says_that_it_can_be_listened_to(modern: ModernClient) -> None:
    offered = (await modern.result("server/discover"))["capabilities"]
    assert offered["tools"]["listChanged"]
    assert offered["resources"]["listChanged"]
    assert offered["resources"]["subscribe"]


async def test_its_listen_streams_hear_what_any_instance_says(
    handlers: list[Handler], modern: ModernClient
) -> None:
    async with (
        modern.listen(id=1, toolsListChanged=True, promptsListChanged=True) as lists,
        modern.listen(id=2, resourceSubscriptions=[NOTE]) as note,
    ):
        await lists.count(1)
        await note.count(1)
        for handler in handlers:
            await handler.notifier.tools_changed()
            await handler.notifier.resource_updated(NOTE)
            await handler.notifier.resource_updated("note://two")
        await handlers[0].notifier.prompts_changed()
        await lists.count(5)
        await note.count(4)
        assert sorted(methods(lists)[1:]) == sorted(
            ["notifications/tools/list_changed"] * 3 + ["notifications/prompts/list_changed"]
        )
        assert [message["params"]["uri"] for message in note.messages[1:]] == [NOTE] * 3
