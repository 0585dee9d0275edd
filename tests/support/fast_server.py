"""A FastMCP with what FastMCP has of its own, and what a test sees of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastmcp import Context, FastMCP
from fastmcp.server.elicitation import AcceptedElicitation
from fastmcp.server.middleware import Middleware
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
)

from tmcp_serverless import replayable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fastmcp.server.middleware import CallNext, MiddlewareContext

NOTE = "note://one"


class Stage:
    """What happened in the servers of one test."""

    def __init__(self) -> None:
        self.entered = 0
        self.left = 0
        self.seen: list[str] = []


class Watching(Middleware):
    def __init__(self, stage: Stage) -> None:
        self._seen = stage.seen

    async def on_message(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        self._seen.append(f"message {context.method}")
        return await call_next(context)

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        return [tool for tool in await call_next(context) if tool.name != "secret"]

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        self._seen.append(f"tool {context.message.name}")
        if context.message.name == "add":
            context.message.arguments["b"] *= 10
        return await call_next(context)


def fast_server(stage: Stage, **options: Any) -> FastMCP[Any]:
    """A server without a name: it makes one up, another one in every process."""

    @asynccontextmanager
    async def lifespan(_: FastMCP[Any]) -> AsyncGenerator[dict[str, Any]]:
        stage.entered += 1
        yield {"database": f"connection {stage.entered}"}
        stage.left += 1

    server: FastMCP[Any] = FastMCP(lifespan=lifespan, middleware=[Watching(stage)], **options)
    for tool in (add, secret, database, transport, hide, remember, recall, talk, order, compose, guarded):
        server.tool(tool)

    @server.resource(NOTE)
    def one() -> str:
        return "the note"

    return server


async def add(a: int, b: int) -> int:
    return a + b


async def secret() -> str:
    return "not listed"


async def database(ctx: Context) -> str:
    return ctx.lifespan_context["database"]


async def transport(ctx: Context) -> str:
    return str(ctx.transport)


async def hide(ctx: Context) -> str:
    await ctx.disable_components(names={"add"})
    return "hidden"


async def remember(word: str, ctx: Context) -> str:
    await ctx.set_state("word", word)
    return word


async def recall(ctx: Context) -> str:
    return str(await ctx.get_state("word"))


async def talk(ctx: Context) -> str:
    await ctx.info("halfway")
    await ctx.report_progress(1, 2, "one of two")
    return "done"


@replayable
async def order(ctx: Context) -> str:
    dish = await ctx.elicit("Which dish?", ["soup", "salad"])
    if not isinstance(dish, AcceptedElicitation):
        return "nothing"
    hot = await ctx.elicit(f"Hot {dish.data}?", bool)
    return f"{hot.action}: {dish.data}, {hot.data}" if isinstance(hot, AcceptedElicitation) else "nothing"


@replayable
async def compose(ctx: Context) -> str:
    asked = SamplingMessage(role="user", content=TextContent(text="A rhyme on the roots"))
    said = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        [asked], max_tokens=10, related_request_id=ctx.request_id
    )
    roots = (await ctx.session.list_roots()).roots  # pyright: ignore[reportDeprecated]
    assert isinstance(said.content, TextContent)
    return f"{said.content.text} at {roots[0].uri}"


async def guarded(ctx: Context) -> Any:
    """Ask as FastMCP has it for the modern era: by returning the question."""
    if ctx.input_responses is None:
        schema = {"type": "object", "properties": {"day": {"type": "string"}}}
        question = ElicitRequest(params=ElicitRequestFormParams(message="Day?", requested_schema=schema))
        return InputRequiredResult(input_requests={"day": question}, request_state="step one")
    answer = ctx.input_responses["day"]
    assert isinstance(answer, ElicitResult)
    assert answer.content is not None
    return f"{ctx.request_state}, {answer.content['day']}"
