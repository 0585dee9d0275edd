"""Tools that ask with plain `ctx.elicit`, sampling and roots: the same source for clients of both eras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolResult,
    ListToolsResult,
    SamplingMessage,
    TextContent,
    Tool,
)
from pydantic import BaseModel

from tests.support.client import Client
from tests.support.modern import ModernClient
from tmcp_serverless import replayable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import NewHandler

INVALID_REQUEST = -32600
MISSING_CAPABILITY = -32021


class Day(BaseModel):
    day: str


class Seats(BaseModel):
    seats: int


class Stage:
    """What the tools of one test did."""

    def __init__(self) -> None:
        self.started = 0
        self.booked: list[str] = []
        self.cleaned_up = 0
        self.fickle = 0


async def _book(stage: Stage, name: str, ctx: Context | FastContext) -> str:
    stage.started += 1
    try:
        day = await ctx.elicit("Which day?", Day)
        if day.action != "accept":
            return "no day"
        seats = await ctx.elicit(f"How many seats on {day.data.day}?", Seats)
        if seats.action != "accept":
            return "no seats"
    finally:
        stage.cleaned_up += 1
    stage.booked.append(name)
    return f"{name}: {seats.data.seats} on {day.data.day}"


def booking_server(stage: Stage) -> MCPServer:
    server = MCPServer("booking", log_level="ERROR")

    @server.tool()
    @replayable
    async def book(name: str, ctx: Context) -> str:
        return await _book(stage, name, ctx)

    @server.tool()
    async def unmarked(ctx: Context) -> str:
        return (await ctx.elicit("Which day?", Day)).action

    @server.tool()
    @replayable
    async def everything(ctx: Context) -> str:
        roots = await ctx.session.list_roots()  # pyright: ignore[reportDeprecated]
        said = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
            [SamplingMessage(role="user", content=TextContent(type="text", text="Say hello"))], max_tokens=10
        )
        url = await ctx.elicit_url("Pay here", "https://pay.example.com", "payment-1")
        assert isinstance(said.content, TextContent)
        return f"{roots.roots[0].uri} {said.content.text} {url.action}"

    @server.tool()
    @replayable
    async def fickle(ctx: Context) -> str:
        stage.fickle += 1
        try:
            return (await ctx.elicit(f"Question of run {stage.fickle}?", Day)).action
        except Exception:  # noqa: BLE001 - a tool that hides what went wrong
            return "hidden"

    @server.tool()
    @replayable
    async def careful(ctx: Context) -> str:
        try:
            return (await ctx.elicit("Which day?", Day)).action
        except MCPError:
            return "without asking"

    return server


def fast_server(stage: Stage) -> FastMCP[Any]:
    server: FastMCP[Any] = FastMCP("booking")

    @server.tool
    @replayable
    async def book(name: str, ctx: FastContext) -> str:
        return await _book(stage, name, ctx)

    return server


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture(params=[booking_server, fast_server], ids=["MCPServer", "FastMCP"])
def build(request: pytest.FixtureRequest) -> Callable[[Stage], Any]:
    return request.param


def text_of(message: dict[str, Any]) -> str:
    return message["result"]["content"][0]["text"]


def accepting(asked: dict[str, Any], **content: Any) -> dict[str, Any]:
    (key,) = asked["inputRequests"]
    return {key: {"action": "accept", "content": content}}


async def test_a_tool_that_elicits_works_for_a_modern_client_on_changing_instances(
    new_handler: NewHandler, build: Callable[[Stage], Any], stage: Stage
) -> None:
    client = ModernClient(*(new_handler(build(stage)).app for _ in range(3)))
    asked = await client.call("book", name="Zoë")
    assert asked["resultType"] == "input_required"
    (question,) = asked["inputRequests"].values()
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Which day?")
    answered = await client.answer(asked, accepting(asked, day="Monday"), "book", name="Zoë")
    asked = answered.messages[-1]["result"]
    (question,) = asked["inputRequests"].values()
    assert question["params"]["message"] == "How many seats on Monday?"
    answered = await client.answer(asked, accepting(asked, seats=2), "book", name="Zoë")
    assert text_of(answered.messages[-1]) == "Zoë: 2 on Monday"
    assert stage.booked == ["Zoë"]
    assert stage.started == stage.cleaned_up == 3


async def test_the_same_source_asks_a_client_of_the_handshake_era_while_it_runs(
    new_handler: NewHandler, build: Callable[[Stage], Any], stage: Stage
) -> None:
    apps = [new_handler(build(stage)).app for _ in range(3)]
    client = await Client(*apps).initialize(capabilities={"elicitation": {}})
    params = {"name": "book", "arguments": {"name": "Zoë"}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    async with client.send("POST", message) as exchange:
        for number, content in enumerate(({"day": "Monday"}, {"seats": 2}), start=1):
            question = (await exchange.count(number))[-1]
            result = {"action": "accept", "content": content}
            await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result})
        await exchange.whole()
    assert text_of(exchange.messages[-1]) == "Zoë: 2 on Monday"
    assert stage.started == 1


async def test_a_refusal_is_an_answer_too(
    new_handler: NewHandler, build: Callable[[Stage], Any], stage: Stage
) -> None:
    client = ModernClient(*(new_handler(build(stage)).app for _ in range(2)))
    asked = await client.call("book", name="Zoë")
    (key,) = asked["inputRequests"]
    answered = await client.answer(asked, {key: {"action": "decline"}}, "book", name="Zoë")
    assert text_of(answered.messages[-1]) == "no day"
    assert stage.booked == []


async def test_a_tool_that_is_not_marked_is_refused_as_before(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(new_handler(booking_server(stage)).app)
    refused = (await client.ask("tools/call", {"name": "unmarked", "arguments": {}})).messages[-1]
    assert "error" in refused or refused["result"]["isError"]


async def test_a_tool_may_be_named_instead_of_marked(new_handler: NewHandler, stage: Stage) -> None:
    apps = [new_handler(booking_server(stage), replayable=["unmarked"]).app for _ in range(2)]
    client = ModernClient(*apps)
    asked = await client.call("unmarked")
    answered = await client.answer(asked, accepting(asked, day="Monday"), "unmarked")
    assert text_of(answered.messages[-1]) == "accept"


async def test_sampling_roots_and_urls_are_asked_in_order(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(*(new_handler(booking_server(stage)).app for _ in range(3)))
    asked = await client.call("everything")
    answers: list[tuple[str, dict[str, Any]]] = [
        ("roots/list", {"roots": [{"uri": "file:///home"}]}),
        (
            "sampling/createMessage",
            {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"},
        ),
        ("elicitation/create", {"action": "accept"}),
    ]
    for method, answer in answers:
        ((key, question),) = asked["inputRequests"].items()
        assert question["method"] == method
        asked = (await client.answer(asked, {key: answer}, "everything")).messages[-1]["result"]
    assert asked["content"][0]["text"] == "file:///home hello accept"


async def test_a_tool_that_asks_something_else_than_before_is_stopped_with_an_error(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(*(new_handler(booking_server(stage)).app for _ in range(2)))
    asked = await client.call("fickle")
    refused = (await client.answer(asked, accepting(asked, day="Monday"), "fickle")).messages[-1]
    assert refused["error"]["code"] == INVALID_REQUEST
    assert "question 1" in refused["error"]["message"]


async def test_rule_k7_an_answer_that_is_missing_or_none_is_asked_for_again(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(*(new_handler(booking_server(stage)).app for _ in range(2)))
    asked = await client.call("book", name="Zoë")
    (key,) = asked["inputRequests"]
    for answers in ({}, {"another": {"action": "accept"}}, {key: {"action": "perhaps"}}, {key: "what?"}):
        again = (await client.answer(asked, answers, "book", name="Zoë")).messages[-1]
        if "error" not in again:  # What is no answer at all the SDK may refuse before us.
            assert again["result"]["inputRequests"].keys() == {key}
    assert stage.booked == []


async def test_rule_k6_a_client_is_not_asked_what_it_cannot_answer(
    new_handler: NewHandler, stage: Stage
) -> None:
    client = ModernClient(new_handler(booking_server(stage)).app)
    client.capabilities = {"elicitation": {"url": {}}}
    refused = await client.ask("tools/call", {"name": "book", "arguments": {"name": "Zoë"}})
    assert refused.status == 400
    assert refused.messages[-1]["error"]["code"] == MISSING_CAPABILITY
    assert (await client.call("careful"))["content"][0]["text"] == "without asking"


async def test_a_lowlevel_server_names_its_replayable_tools(new_handler: NewHandler) -> None:
    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="ask", input_schema={"type": "object"})])

    async def call_tool(ctx: Any, _: Any) -> CallToolResult:
        schema = {"type": "object", "properties": {"day": {"type": "string"}}}
        answer = await ctx.session.elicit_form("Which day?", schema)
        return CallToolResult(content=[TextContent(type="text", text=str(answer.content))])

    def build() -> Server[Any]:
        return Server("plain", on_list_tools=list_tools, on_call_tool=call_tool)

    client = ModernClient(*(new_handler(build(), replayable=["ask"]).app for _ in range(2)))
    asked = await client.call("ask")
    forged = await client.answer({"requestState": "[]"}, {}, "ask")
    assert "error" in forged.messages[-1]
    answered = await client.answer(asked, accepting(asked, day="Monday"), "ask")
    assert text_of(answered.messages[-1]) == "{'day': 'Monday'}"


async def test_a_state_that_may_be_used_once_books_once(new_handler: NewHandler, stage: Stage) -> None:
    client = ModernClient(*(new_handler(booking_server(stage), single_use=True).app for _ in range(2)))
    asked = await client.call("book", name="Zoë")
    answered = await client.answer(asked, accepting(asked, day="Monday"), "book", name="Zoë")
    asked = answered.messages[-1]["result"]
    for _ in range(3):
        await client.answer(asked, accepting(asked, seats=2), "book", name="Zoë")
    assert stage.booked == ["Zoë"]
