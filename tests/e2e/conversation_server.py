"""A server that talks back: its tools ask the client, last for a while, and can be stopped.

What became of a tool is written into the table `diary`, because nobody who asks later is in this process.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import anyio
import asyncpg
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp_types import Completion, SamplingMessage, TextContent
from pydantic import BaseModel

from tmcp_serverless import create_handler, replayable

MEMO = "memo://latest"
LONG_SECONDS = 3600.0

server = MCPServer("conversation", log_level="ERROR")


class Consent(BaseModel):
    """What the user is asked."""

    sure: bool
    why: str = "no reason"


async def ask_consent() -> Elicit[Consent]:
    return Elicit("Shall we meet?", Consent)


async def write(run: str, event: str) -> None:
    """Write a line into the diary, even where the tool is being stopped."""
    # The SDK's modern entry stops a tool by a cancel scope, which ends every wait that is not shielded.
    with anyio.CancelScope(shield=True):
        connection = await asyncpg.connect(os.environ["TMCP_DATABASE_URL"])
        try:
            await connection.execute("INSERT INTO diary (run, event) VALUES ($1, $2)", run, event)
        finally:
            await connection.close()


@server.tool()
async def add(a: int, b: int) -> int:
    return a + b


@server.tool()
@replayable
async def consent(question: str, ctx: Context) -> str:
    """Ask the user, with a form."""
    answer = await ctx.elicit(question, Consent)
    return f"accept: {answer.data.sure}, {answer.data.why}" if answer.action == "accept" else answer.action


@server.tool()
@replayable
async def sign_in(ctx: Context) -> str:
    """Send the user to a page, and say when that is done."""
    answer = await ctx.elicit_url("Please sign in.", "https://example.test/sign-in", "sign-in-1")
    if answer.action == "accept":
        await ctx.session.send_elicit_complete("sign-in-1", ctx.request_id)
    return answer.action


@server.tool()
@replayable
async def summarize(text: str, ctx: Context) -> str:
    """Have the client's model summarize a text."""
    return await _sample(f"Summarize: {text}", ctx)


@server.tool()
@replayable
async def where(ctx: Context) -> list[str]:
    """Ask the client for its roots."""
    return [str(root.uri) for root in (await ctx.session.list_roots()).roots]  # pyright: ignore[reportDeprecated]


@server.tool()
@replayable
async def everything_at_once(ctx: Context) -> list[str]:
    """Ask three questions, a model, and for the roots, before any of them is answered."""
    first, second, third, sampled, roots = await asyncio.gather(
        *(consent(f"question {number}", ctx) for number in range(3)), _sample("at once", ctx), where(ctx)
    )
    return [str(first), str(second), str(third), str(sampled), *roots]


@server.tool()
async def meet(whom: str, answer: Annotated[Consent, Resolve(ask_consent)]) -> str:
    """Ask as the SDK has it for both eras: what is asked for is an argument."""
    return f"{whom}: {answer.sure}, {answer.why}"


@server.tool()
async def talk(ctx: Context) -> str:
    """Say something at each of three levels."""
    await ctx.debug("low")  # pyright: ignore[reportDeprecated]
    await ctx.info("middle")  # pyright: ignore[reportDeprecated]
    await ctx.warning("high")  # pyright: ignore[reportDeprecated]
    return "said"


@server.tool()
async def work(run: str, ctx: Context, steps: int = 12, seconds: float = 1.5) -> str:
    """Work for some seconds, say how far it is, and write down how it ended."""
    await write(run, "started")
    try:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await asyncio.sleep(seconds / steps)
    except asyncio.CancelledError:
        await write(run, "cancelled")
        raise
    await write(run, "finished")
    return f"{steps} steps"


@server.tool()
async def wait(run: str, ctx: Context) -> str:
    """Wait for ever, without a word after the first."""
    return await work(run, ctx, steps=1, seconds=LONG_SECONDS)


@server.tool()
async def ask_and_wait(run: str, ctx: Context) -> str:
    """Ask, and write down whether the tool was stopped before the answer came."""
    await write(run, "started")
    try:
        return await consent("Will you ever answer?", ctx)
    except asyncio.CancelledError:
        await write(run, "cancelled")
        raise


@server.tool()
async def touch() -> str:
    """Tell the subscribers of the memo that it has changed, and everybody that the lists have."""
    await handler.notifier.resource_updated(MEMO)
    await handler.notifier.tools_changed()
    await handler.notifier.prompts_changed()
    await handler.notifier.resources_changed()
    return "touched"


@server.tool()
async def publish(ctx: Context) -> str:
    """Say the same as the SDK has it for the modern era."""
    await ctx.notify_resource_updated(MEMO)
    await ctx.notify_tools_changed()
    await ctx.notify_prompts_changed()
    await ctx.notify_resources_changed()
    return "published"


@server.resource(MEMO)
async def memo() -> str:
    return "milk"


@server.prompt()
async def greet(name: str) -> str:
    return f"Say hello to {name}."


@server.completion()
async def complete(_ref: Any, argument: Any, _context: Any) -> Completion:
    return Completion(values=[name for name in ("Ann", "Anton", "Bob") if name.startswith(argument.value)])


async def _sample(text: str, ctx: Context) -> str:
    asked = SamplingMessage(role="user", content=TextContent(text=text))
    result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        [asked], max_tokens=100, related_request_id=ctx.request_id
    )
    said = result.content
    return f"{result.model}: {said.text if isinstance(said, TextContent) else said.type}"


handler = create_handler(server)
