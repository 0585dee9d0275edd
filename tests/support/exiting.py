"""Servers whose code exits, in each way that there is."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Never

from fastmcp import Context as FastContext
from fastmcp import FastMCP
from mcp.server.mcpserver import Context, MCPServer
from starlette.requests import Request
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS", "exiting_fast_server", "exiting_server"]


def _exit() -> Never:
    sys.exit(2)


def _argparse() -> Never:
    parser = argparse.ArgumentParser()
    parser.print_usage = lambda *_: None  # type: ignore[method-assign]
    parser.error("no such option")


def _interrupt() -> Never:
    raise KeyboardInterrupt


def _generator() -> Never:
    raise GeneratorExit


def _cancelled() -> Never:
    raise asyncio.CancelledError


def _group() -> Never:
    raise BaseExceptionGroup("of a task group", [SystemExit(2), ValueError("beside it")])


class _OwnError(BaseException):
    def __str__(self) -> str:
        raise AttributeError("it cannot be printed")


def _own() -> Never:
    raise _OwnError


WAYS: dict[str, Callable[[], Never]] = {
    "exit": _exit,
    "argparse": _argparse,
    "interrupt": _interrupt,
    "generator": _generator,
    "cancelled": _cancelled,
    "group": _group,
    "own": _own,
}


def exiting_server() -> MCPServer:
    """Return a server with a tool, a resource, a prompt, a completion and a route that exit."""
    server = MCPServer("exiting", log_level="CRITICAL")
    _add_parts(server)
    tasks: list[asyncio.Task[None]] = []
    exited: list[str] = []

    @server.tool()
    async def report_and_leave(way: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        WAYS[way]()

    @server.completion()
    async def complete(_reference: Any, argument: Any, _context: Any) -> None:
        WAYS[argument.value]()

    @server.custom_route("/leave/{way}", methods=["GET"])
    async def leave_page(request: Request) -> PlainTextResponse:
        WAYS[request.path_params["way"]]()

    @server.tool()
    async def leave_behind(way: str) -> str:
        """Start a task that exits when the call has been answered."""

        async def leave() -> None:
            await asyncio.sleep(0.01)
            exited.append(way)
            WAYS[way]()

        tasks.append(asyncio.create_task(leave()))
        return "done"

    @server.tool()
    async def left() -> str:
        """Return the process, and how often tasks have exited."""
        await asyncio.sleep(0.02)
        return f"{os.getpid()} {len(exited)}"

    return server


def exiting_fast_server() -> FastMCP:
    """Return a FastMCP with the same parts."""
    server: FastMCP = FastMCP("exiting-fast")
    _add_parts(server)

    @server.tool()
    async def report_and_leave(way: str, ctx: FastContext) -> str:
        await ctx.report_progress(1, 2)
        WAYS[way]()

    @server.completion()
    async def complete(_reference: Any, argument: Any, _context: Any) -> None:
        WAYS[argument.value]()

    return server


def _add_parts(server: Any) -> None:
    @server.tool()
    async def leave(way: str) -> str:
        WAYS[way]()

    @server.tool()
    def leave_thread(way: str) -> str:
        WAYS[way]()

    @server.tool()
    async def fine() -> str:
        return "fine"

    @server.resource("note://{way}")
    async def note(way: str) -> str:
        WAYS[way]()

    @server.resource("thread://{way}")
    def note_thread(way: str) -> str:
        WAYS[way]()

    @server.prompt()
    async def ask(way: str) -> str:
        WAYS[way]()

    @server.prompt()
    def ask_thread(way: str) -> str:
        WAYS[way]()
