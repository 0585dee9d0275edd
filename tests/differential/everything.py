"""An `MCPServer` with tools of every kind, prompts, resources and completion."""

import asyncio
import json
from typing import Annotated, Any, Literal, TypedDict

import mcp_types as types
from mcp.server.mcpserver import Audio, Context, Elicit, Image, MCPServer, Resolve
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field

from . import saying
from .notebook import Notebook

__all__ = ["build_everything"]

Ctx = Context[Any, Any]


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    celsius: float = Field(description="degrees")
    tags: list[str] = []


class Person(BaseModel):
    """Somebody."""

    name: str


class Point(TypedDict):
    """A point."""

    x: int
    y: int


async def _ask_who() -> Elicit[Person]:
    return Elicit("Who is it?", Person)


def build_everything(notebook: Notebook) -> MCPServer[Any]:
    """Return a new server; what it sees goes into the notebook."""
    server = MCPServer[Any](
        "everything",
        title="Everything",
        description="A server that has everything",
        instructions="Use the tools.",
        website_url="https://example.com/everything",
        icons=[types.Icon(src="https://example.com/icon.png", mime_type="image/png", sizes=["48x48"])],
        version="1.2.3",
        log_level="CRITICAL",
        middleware=[saying.recorder(notebook)],
        lifespan=lambda _: saying.lifespan(),
    )
    _add_content_tools(server)
    _add_failing_tools(server)
    _add_argument_tools(server)
    _add_talking_tools(server)
    _add_hurried_tools(server, notebook)
    _add_asking_tools(server, notebook)
    _add_standalone_asking_tools(server)
    _add_waiting_tools(server, notebook)
    _add_resources(server)
    _add_prompts(server)
    _add_completion(server)
    return server


def _add_content_tools(server: MCPServer[Any]) -> None:  # noqa: C901 - a table of small functions
    @server.tool(
        title="Echo", annotations=types.ToolAnnotations(read_only_hint=True), meta={"example.com/k": 1}
    )
    def echo(value: str) -> str:
        """Say it again."""
        return value

    @server.tool()
    def image() -> Image:
        return Image(data=saying.IMAGE, format="png")

    @server.tool()
    def audio() -> Audio:
        return Audio(data=saying.AUDIO, format="wav")

    @server.tool()
    def embedded() -> types.EmbeddedResource:
        contents = types.TextResourceContents(uri="test://text", mime_type="text/plain", text="inside")
        return types.EmbeddedResource(resource=contents)

    @server.tool()
    def link() -> types.ResourceLink:
        return types.ResourceLink(
            uri="test://text", name="text", description="a link", mime_type="text/plain"
        )

    @server.tool(structured_output=False)
    def mixed() -> list[Any]:
        return [
            "one",
            Image(data=saying.IMAGE, format="png"),
            {"three": 3},
            types.TextContent(text="four"),
            5,
        ]

    @server.tool()
    def structured(city: str) -> Weather:
        return Weather(city=city, celsius=21.5, tags=["mild"])

    @server.tool()
    def point() -> Point:
        return Point(x=1, y=-1)

    @server.tool()
    def numbers() -> list[float]:
        return [1, 2.5, 1e300, -0.0, 2**53]

    @server.tool()
    def nothing() -> None:
        """Return nothing."""

    @server.tool()
    def unicode() -> str:
        return saying.UNICODE

    @server.tool()
    def surrogate() -> str:
        return saying.SURROGATE

    @server.tool()
    def given(anything: Any) -> dict[str, Any]:
        return {"given": anything}

    @server.tool()
    def big(size: int) -> str:
        return "0123456789" * (size // 10)

    @server.tool()
    def with_meta() -> types.CallToolResult:
        content = types.TextContent(
            text="with meta", annotations=types.Annotations(audience=["user"], priority=0.5)
        )
        return types.CallToolResult(content=[content], _meta={"example.com/answer": 42})


def _add_failing_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    def is_error() -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text="it went wrong")], is_error=True)

    @server.tool()
    def raising() -> str:
        raise ValueError("a secret detail")

    @server.tool()
    def tool_error() -> str:
        raise ToolError("an anticipated failure")

    @server.tool()
    def mcp_error() -> str:
        raise MCPError(code=-31999, message="a protocol error", data={"reason": ["a", 1]})

    @server.tool()
    def wrong_structure() -> Weather:
        return {"city": 3}  # type: ignore[return-value] # pyright: ignore[reportReturnType] # on purpose


def _add_argument_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    def odd(
        *,
        integer: int,
        number: float = 0.5,
        flag: bool = False,
        choice: Literal["a", "b"] = "a",
        nested: Weather | None = None,
        items: Annotated[list[int], Field(max_length=3)] = [],  # noqa: B006 - pydantic copies it
        anything: Any = None,
    ) -> str:
        values = [integer, number, flag, choice, nested and nested.model_dump(), items, anything]
        return json.dumps(values)

    @server.tool()
    def about_request(ctx: Ctx) -> str:
        return saying.about_request(ctx.request_context)

    @server.tool()
    def about_client(ctx: Ctx) -> str:
        params = ctx.session.client_params
        return "unknown" if params is None else params.model_dump_json(by_alias=True, exclude_none=True)


def _add_talking_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    async def progress(ctx: Ctx, steps: int) -> str:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
        await ctx.report_progress(steps + 0.5)
        return "done"

    @server.tool()
    async def logs(ctx: Ctx) -> str:
        for level in types.LoggingLevel.__args__:
            await ctx.log(level, f"at {level}")  # pyright: ignore[reportDeprecated] - still what servers use
        await ctx.log("error", {"a": [1, None]}, logger_name="here")  # pyright: ignore[reportDeprecated]
        return "logged"

    @server.tool()
    async def say(ctx: Ctx, level: types.LoggingLevel, data: Any, *, alone: bool = True) -> str:
        await saying.log(ctx.request_context, level, data, alone=alone)
        return "said"

    @server.tool()
    async def changed(ctx: Ctx, what: str, *, alone: bool = True) -> str:
        await saying.tell_client(ctx.request_context, what, alone=alone)
        return "told"

    @server.tool()
    async def publish(ctx: Ctx, what: str) -> str:
        await saying.publish(ctx, what)
        return "published"

    @server.tool()
    async def chatter(ctx: Ctx, count: int) -> str:
        for number in range(count):
            await saying.log(ctx.request_context, "emergency", number, alone=number % 2 == 1)
        return "over"


def _add_hurried_tools(server: MCPServer[Any], notebook: Notebook) -> None:
    @server.tool()
    async def progress_unawaited(ctx: Ctx, steps: int) -> str:
        for step in range(1, steps + 1):
            notebook.keep(asyncio.create_task(ctx.report_progress(step, steps)))
        await asyncio.sleep(0)
        return "done"

    @server.tool()
    async def logs_at_once(ctx: Ctx, count: int, *, alone: bool) -> str:
        await saying.log_at_once(ctx.request_context, count=count, alone=alone)
        return "logged"

    @server.tool()
    async def ask_and_log_at_once(ctx: Ctx, count: int, *, alone: bool) -> str:
        logs = saying.log_at_once(ctx.request_context, count=count, alone=alone)
        name, _ = await asyncio.gather(saying.ask_for_name(ctx.request_context, alone=alone), logs)
        return name


def _add_asking_tools(server: MCPServer[Any], notebook: Notebook) -> None:
    @server.tool()
    async def elicit(ctx: Ctx) -> str:
        result = await ctx.elicit("Who are you?", Person)
        return result.model_dump_json()

    @server.tool()
    async def elicit_raw(ctx: Ctx, *, alone: bool = False) -> str:
        return await saying.ask_for_name(ctx.request_context, alone=alone)

    @server.tool()
    async def resolved(person: Annotated[Person, Resolve(_ask_who)], greeting: str) -> str:
        return f"{greeting}, {person.name}"

    @server.tool()
    async def elicit_url(ctx: Ctx) -> str:
        result = await ctx.elicit_url("Log in", "https://example.com/login", "e-1")
        await ctx.session.send_elicit_complete("e-1", ctx.request_id)
        return result.model_dump_json()

    @server.tool()
    async def elicit_many(ctx: Ctx, count: int) -> str:
        return await saying.ask_many(ctx.request_context, count=count)

    @server.tool()
    async def elicit_impatiently(ctx: Ctx) -> str:
        return await saying.ask_impatiently(ctx.request_context)

    @server.tool()
    async def elicit_with_progress(ctx: Ctx) -> str:
        return await saying.ask_with_progress(ctx.request_context, notebook)


def _add_standalone_asking_tools(server: MCPServer[Any]) -> None:
    @server.tool()
    async def sample(ctx: Ctx) -> str:
        return await saying.ask_model(ctx.request_context)

    @server.tool()
    async def roots(ctx: Ctx) -> str:
        return await saying.ask_for_roots(ctx.request_context)

    @server.tool()
    async def ping_client(ctx: Ctx) -> str:
        await ctx.session.send_ping()
        return "pong"


def _add_waiting_tools(server: MCPServer[Any], notebook: Notebook) -> None:
    @server.tool()
    async def rendezvous(size: int) -> str:
        return await saying.rendezvous(notebook, size=size)

    @server.tool()
    async def gate(ctx: Ctx, name: str) -> str:
        return await saying.gate(ctx.request_context, notebook, name)

    @server.tool()
    async def late(ctx: Ctx, name: str) -> str:
        return saying.late(ctx.request_context, notebook, name)

    @server.tool()
    async def forever() -> str:
        return await saying.forever(notebook)


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://text", title="Text", description="some text", mime_type="text/plain")
    def text() -> str:
        return "a text resource"

    @server.resource("test://binary", mime_type="application/octet-stream")
    def binary() -> bytes:
        return saying.AUDIO

    @server.resource("test://json", mime_type="application/json")
    def as_json() -> dict[str, Any]:
        return {"a": [1, 2.5, None], "ü": "✓"}

    @server.resource("test://broken")
    def broken() -> str:
        raise ValueError("a secret detail")

    @server.resource("test://refused")
    def refused() -> str:
        raise ResourceError("not today")

    @server.resource("test://items/{name}", mime_type="text/plain")
    def item(name: str) -> str:
        if name == "missing":
            raise ResourceNotFoundError("no such item")
        return f"item {name}"

    @server.resource("test://seen/{what}", mime_type="text/plain")
    async def seen(what: str, ctx: Ctx) -> str:
        await ctx.log("emergency", what)  # pyright: ignore[reportDeprecated] - still what servers use
        return f"{what} by {ctx.request_id}"


def _add_prompts(server: MCPServer[Any]) -> None:
    @server.prompt(title="Simple", description="no arguments")
    def simple() -> str:
        return "a simple prompt"

    @server.prompt()
    def greet(name: str, tone: str = "friendly") -> list[Message]:
        """Greet somebody."""
        return [UserMessage(f"Greet {name}."), AssistantMessage(f"In a {tone} tone?")]

    @server.prompt()
    def rich() -> list[Message]:
        contents = types.TextResourceContents(uri="test://text", text="inside")
        image = types.ImageContent(data="aW1n", mime_type="image/png")
        return [UserMessage(types.EmbeddedResource(resource=contents)), UserMessage(image)]

    @server.prompt()
    def broken() -> str:
        raise ValueError("a secret detail")


def _add_completion(server: MCPServer[Any]) -> None:
    @server.completion()
    async def complete(
        ref: types.PromptReference | types.ResourceTemplateReference,
        argument: types.CompletionArgument,
        context: types.CompletionContext | None,
    ) -> types.Completion | None:
        if argument.name == "broken":
            raise ValueError("a secret detail")
        if argument.name == "unknown":
            return None
        known = context.arguments if context else None
        of = ref.name if isinstance(ref, types.PromptReference) else ref.uri
        return types.Completion(values=[f"{argument.value}-{of}", str(known)], total=2, has_more=False)
