"""What the tools of both servers have in common: recording, and talking to the client in mid-request."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext
from mcp.server.mcpserver import Context as ServerContext
from mcp.shared.message import ServerMessageMetadata

from .notebook import Notebook

__all__ = [
    "AUDIO",
    "CHANGES",
    "IMAGE",
    "SURROGATE",
    "UNICODE",
    "Context",
    "about_request",
    "ask_for_name",
    "ask_for_roots",
    "ask_impatiently",
    "ask_many",
    "ask_model",
    "ask_with_progress",
    "forever",
    "gate",
    "late",
    "lifespan",
    "log",
    "log_at_once",
    "publish",
    "recorder",
    "rendezvous",
    "tell_client",
]

Context = ServerRequestContext[Any, Any]

IMAGE = b"\x89PNG\r\n\x1a\n not quite"
AUDIO = b"RIFF\x00\xff\xfe wave"
UNICODE = 'héllo wörld \u2013 日本語 🎉 \u2028 \u0000 \x7f "quoted" \\ \r\n\t end'
SURROGATE = "half a pair: \ud83c"
"""A Python string that is no Unicode text: it cannot be encoded in UTF-8."""

CHANGES: dict[str, Callable[[], types.ServerNotification]] = {
    "tools": types.ToolListChangedNotification,
    "prompts": types.PromptListChangedNotification,
    "resources": types.ResourceListChangedNotification,
}
"""The notifications by which a server says that a list has changed."""


def recorder(notebook: Notebook) -> ServerMiddleware[Any]:
    """Return a middleware that writes down every message that the server is given."""

    async def record(ctx: Context, call_next: CallNext) -> HandlerResult:
        kind = "notification" if ctx.request_id is None else "request"
        notebook.write(kind=kind, method=ctx.method, params=ctx.params)
        return await call_next(ctx)

    return record


@asynccontextmanager
async def lifespan() -> AsyncGenerator[dict[str, Any]]:
    """What the servers have for as long as they run."""
    yield {"opened": ["something"]}


def about_request(ctx: Context) -> str:
    """Return what a handler can learn of the request that it serves."""
    known = {
        "id": ctx.request_id,
        "meta": dict(ctx.meta) if ctx.meta else None,
        "probe": ctx.request.headers.get("x-probe") if ctx.request is not None else None,
        "version": ctx.protocol_version,
        "lifespan": ctx.lifespan_context,
        "method": ctx.method,
        "params": ctx.params,
    }
    return json.dumps(known)


async def log(
    ctx: Context, level: types.LoggingLevel, data: Any, *, name: str | None = None, alone: bool = False
) -> None:
    """Send a log message, on the request's own stream or on the standalone one."""
    params = types.LoggingMessageNotificationParams(level=level, data=data, logger=name)
    related = None if alone else ctx.request_id
    await ctx.session.send_notification(types.LoggingMessageNotification(params=params), related)


async def log_at_once(ctx: Context, *, count: int, alone: bool) -> None:
    """Send several log messages side by side."""
    await asyncio.gather(*(log(ctx, "emergency", number, alone=alone) for number in range(count)))


async def tell_client(ctx: Context, what: str, *, alone: bool) -> None:
    """Send a notification that a list has changed, or, where `what` is a URI, that a resource has."""
    related = None if alone else ctx.request_id
    if what in CHANGES:
        await ctx.session.send_notification(CHANGES[what](), related)
    else:
        params = types.ResourceUpdatedNotificationParams(uri=what)
        await ctx.session.send_notification(types.ResourceUpdatedNotification(params=params), related)


async def publish(ctx: ServerContext[Any, Any], what: str) -> None:
    """Tell the modern era's subscribers that a list has changed, or, where `what` is a URI, a resource."""
    match what:
        case "tools":
            await ctx.notify_tools_changed()
        case "prompts":
            await ctx.notify_prompts_changed()
        case "resources":
            await ctx.notify_resources_changed()
        case _:
            await ctx.notify_resource_updated(what)


async def ask_for_name(ctx: Context, *, alone: bool = False) -> str:
    """Elicit a name from the user."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    result = await ctx.session.elicit_form("Who are you?", schema, None if alone else ctx.request_id)
    return f"{result.action}: {result.content}"


async def ask_many(ctx: Context, *, count: int) -> str:
    """Ask several questions at once, and return the answers in the order of the questions."""
    schema: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
    questions = (
        ctx.session.elicit_form(f"Question {number}", schema, ctx.request_id) for number in range(count)
    )
    results = await asyncio.gather(*questions)
    return ", ".join(f"{result.action} {result.content}" for result in results)


async def ask_impatiently(ctx: Context) -> str:
    """Ask something and wait for a moment only."""
    params = types.ElicitRequestFormParams(
        message="Quick!", requested_schema={"type": "object", "properties": {}}
    )
    metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
    await ctx.session.send_request(types.ElicitRequest(params=params), types.ElicitResult, 0.05, metadata)
    return "answered in time"


async def ask_with_progress(ctx: Context, notebook: Notebook) -> str:
    """Ask something and listen to how far the client is with it."""

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        notebook.write(kind="heard", progress=progress, total=total, message=message)

    params = types.ElicitRequestFormParams(
        message="Slowly", requested_schema={"type": "object", "properties": {}}
    )
    result = await ctx.session.send_request(
        types.ElicitRequest(params=params),
        types.ElicitResult,
        metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        progress_callback=heard,
    )
    return result.action


async def ask_model(ctx: Context) -> str:
    """Ask the client's model a question, on the standalone stream."""
    message = types.SamplingMessage(role="user", content=types.TextContent(text="Why?"))
    params = types.CreateMessageRequestParams(messages=[message], max_tokens=100, system_prompt="Be brief.")
    request = types.CreateMessageRequest(params=params)
    result = await ctx.session.send_request(request, types.CreateMessageResult)
    return result.model_dump_json(by_alias=True, exclude_none=True)


async def ask_for_roots(ctx: Context) -> str:
    """Ask the client for its roots, on the standalone stream."""
    result = await ctx.session.send_request(types.ListRootsRequest(), types.ListRootsResult)
    return ", ".join(str(root.uri) for root in result.roots)


async def rendezvous(notebook: Notebook, *, size: int) -> str:
    """Wait until so many calls are here at once."""
    notebook.write(kind="arrived")
    await notebook.until("arrived", size)
    return f"all {size} are here"


async def gate(ctx: Context, notebook: Notebook, name: str) -> str:
    """Say something, wait until the gate is open, and say something else."""
    await log(ctx, "emergency", "waiting")
    notebook.write(kind="waiting", name=name)
    await notebook.gate(name).wait()
    await log(ctx, "emergency", "through")
    notebook.write(kind="through", name=name)
    return f"{name} is open"


def late(ctx: Context, notebook: Notebook, name: str) -> str:
    """Leave a task behind that speaks when the request has long been answered."""

    async def speak() -> None:
        await notebook.gate(name).wait()
        await log(ctx, "emergency", "late, for the response")
        await log(ctx, "emergency", "late, for everybody", alone=True)

    notebook.keep(asyncio.create_task(speak()))
    return "later"


async def forever(notebook: Notebook) -> str:
    """Wait to be cancelled."""
    notebook.write(kind="started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        notebook.write(kind="cancelled")
        raise
    return "never"
