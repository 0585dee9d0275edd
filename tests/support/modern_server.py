"""A server for the modern era, and what a test sees of its tools."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Elicit, Resolve
from pydantic import BaseModel


class Name(BaseModel):
    name: str


class Stage:
    """What the tools of one test did."""

    def __init__(self) -> None:
        self.greeted: list[str] = []
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()


async def ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


def modern_server(stage: Stage, **options: Any) -> MCPServer:
    server = MCPServer("modern", log_level="ERROR", **options)

    @server.tool()
    async def greet(greeting: str, who: Annotated[Name, Resolve(ask_name)]) -> str:
        stage.greeted.append(who.name)
        return f"{greeting} {who.name}"

    @server.tool()
    async def publish(what: str, ctx: Context) -> str:
        match what:
            case "tools":
                await ctx.notify_tools_changed()
            case "prompts":
                await ctx.notify_prompts_changed()
            case "resources":
                await ctx.notify_resources_changed()
            case _:
                await ctx.notify_resource_updated(what)
        return what

    @server.tool()
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1)
        stage.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stage.cancelled.set()
            raise
        return "never"

    @server.tool()
    async def talk(ctx: Context) -> str:
        await ctx.info("halfway")  # pyright: ignore[reportDeprecated]
        return "done"

    @server.resource("note://one")
    def one() -> str:
        return "the note"

    return server
