"""A lowlevel `Server` with a handler for every request and notification, in pages where there are pages."""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from . import saying
from .notebook import Notebook
from .saying import Context

__all__ = ["build_lowlevel"]

Arguments = Mapping[str, Any]
ToolFunction = Callable[[Context, Arguments], Awaitable[types.CallToolResult | str]]

PAGE = 10
OPEN_SCHEMA: dict[str, Any] = {"type": "object"}
NAMES = [f"test://page/{number}" for number in range(25)]


def build_lowlevel(notebook: Notebook) -> Server[Any]:
    """Return a new server; what it sees goes into the notebook."""
    server = Server[Any](
        "lowlevel",
        version="0.0.1",
        instructions="Handle with care.",
        lifespan=lambda _: saying.lifespan(),
        on_list_tools=_list_tools,
        on_call_tool=_calls(_tools(notebook)),
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_subscribe_resource=_subscriber(notebook),
        on_unsubscribe_resource=_unsubscriber(notebook),
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_completion=_complete,
    )

    async def set_level(_: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        notebook.write(kind="level", level=params.level)
        return types.EmptyResult()

    async def on_roots(ctx: Context, params: types.NotificationParams) -> None:
        wish = (params.meta or {}).get("wish")
        if wish == "fail":
            raise ValueError("a handler that fails")
        if wish == "speak":
            await saying.log(ctx, "emergency", "the roots have changed", alone=True)
        if wish == "ask":
            notebook.write(kind="asked", roots=await saying.ask_for_roots(ctx))
        notebook.write(kind="roots", params=params.model_dump(by_alias=True, exclude_none=True))

    async def on_progress(_: Context, params: types.ProgressNotificationParams) -> None:
        notebook.write(kind="progress", params=params.model_dump(by_alias=True, exclude_none=True))

    async def on_custom(_: Context, params: types.RequestParams) -> dict[str, Any]:
        if params.meta is not None and "fail" in params.meta:
            raise KeyError("a custom failure")
        return {"custom": True, "_meta": {"example.com/kept": 1}}

    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
    server.add_request_handler("example/custom", types.RequestParams, on_custom)
    server.add_notification_handler("notifications/roots/list_changed", types.NotificationParams, on_roots)
    server.add_notification_handler("notifications/progress", types.ProgressNotificationParams, on_progress)
    server.middleware.append(saying.recorder(notebook))
    return server


def _tools(notebook: Notebook) -> dict[str, ToolFunction]:  # noqa: C901 - a table of small functions
    async def echo(_: Context, arguments: Arguments) -> str:
        return str(arguments["value"])

    async def structured(_: Context, arguments: Arguments) -> types.CallToolResult:
        content = types.TextContent(text="see below")
        return types.CallToolResult(content=[content], structured_content={"given": dict(arguments)})

    async def all_content(_: Context, __: Arguments) -> types.CallToolResult:
        picture = types.ImageContent(data=base64.b64encode(saying.IMAGE).decode(), mime_type="image/png")
        sound = types.AudioContent(data=base64.b64encode(saying.AUDIO).decode(), mime_type="audio/wav")
        blob = types.BlobResourceContents(uri="test://blob", blob="AAEC", mime_type="application/x-blob")
        link = types.ResourceLink(uri="test://page/1", name="page 1")
        return types.CallToolResult(content=[picture, sound, types.EmbeddedResource(resource=blob), link])

    async def unicode(_: Context, __: Arguments) -> str:
        return saying.UNICODE

    async def surrogate(_: Context, __: Arguments) -> str:
        return saying.SURROGATE

    async def given(_: Context, arguments: Arguments) -> types.CallToolResult:
        return types.CallToolResult(content=[], structured_content={"given": arguments["anything"]})

    async def big(_: Context, arguments: Arguments) -> str:
        return "0123456789" * (int(arguments["size"]) // 10)

    async def with_meta(_: Context, __: Arguments) -> types.CallToolResult:
        return types.CallToolResult(content=[], _meta={"example.com/answer": 42})

    async def is_error(_: Context, __: Arguments) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text="it went wrong")], is_error=True)

    async def raising(_: Context, __: Arguments) -> str:
        raise ValueError("the detail of a lowlevel handler")

    async def mcp_error(_: Context, __: Arguments) -> str:
        raise MCPError(code=-31999, message="a protocol error", data={"reason": ["a", 1]})

    async def about_request(ctx: Context, _: Arguments) -> str:
        return saying.about_request(ctx)

    async def about_client(ctx: Context, _: Arguments) -> str:
        params = ctx.session.client_params
        return "unknown" if params is None else params.model_dump_json(by_alias=True, exclude_none=True)

    async def progress(ctx: Context, arguments: Arguments) -> str:
        for step in range(1, arguments["steps"] + 1):
            await ctx.session.report_progress(step, arguments["steps"], f"step {step}")
        await ctx.session.report_progress(arguments["steps"] + 0.5)
        return "done"

    async def logs(ctx: Context, _: Arguments) -> str:
        for level in types.LoggingLevel.__args__:
            await saying.log(ctx, level, f"at {level}")
        await saying.log(ctx, "error", {"a": [1, None]}, name="here")
        return "logged"

    async def say(ctx: Context, arguments: Arguments) -> str:
        await saying.log(ctx, arguments["level"], arguments["data"], alone=arguments.get("alone", True))
        return "said"

    async def changed(ctx: Context, arguments: Arguments) -> str:
        await saying.tell_client(ctx, arguments["what"], alone=arguments.get("alone", True))
        return "told"

    async def chatter(ctx: Context, arguments: Arguments) -> str:
        for number in range(arguments["count"]):
            await saying.log(ctx, "emergency", number, alone=number % 2 == 1)
        return "over"

    async def elicit_raw(ctx: Context, arguments: Arguments) -> str:
        return await saying.ask_for_name(ctx, alone=arguments.get("alone", False))

    async def elicit_many(ctx: Context, arguments: Arguments) -> str:
        return await saying.ask_many(ctx, count=arguments["count"])

    async def elicit_impatiently(ctx: Context, _: Arguments) -> str:
        return await saying.ask_impatiently(ctx)

    async def elicit_with_progress(ctx: Context, _: Arguments) -> str:
        return await saying.ask_with_progress(ctx, notebook)

    async def sample(ctx: Context, _: Arguments) -> str:
        return await saying.ask_model(ctx)

    async def roots(ctx: Context, _: Arguments) -> str:
        return await saying.ask_for_roots(ctx)

    async def ping_client(ctx: Context, _: Arguments) -> str:
        await ctx.session.send_ping()
        return "pong"

    async def rendezvous(_: Context, arguments: Arguments) -> str:
        return await saying.rendezvous(notebook, size=arguments["size"])

    async def gate(ctx: Context, arguments: Arguments) -> str:
        return await saying.gate(ctx, notebook, arguments["name"])

    async def late(ctx: Context, arguments: Arguments) -> str:
        return saying.late(ctx, notebook, arguments["name"])

    async def forever(_: Context, __: Arguments) -> str:
        return await saying.forever(notebook)

    async def unserializable(_: Context, __: Arguments) -> types.CallToolResult:
        return types.CallToolResult.model_construct(content="no list")  # the SDK finds out when it serializes

    functions: list[ToolFunction] = [
        *(echo, structured, all_content, unicode, surrogate, given, big, with_meta, unserializable),
        *(is_error, raising, mcp_error, about_request, about_client, progress, logs, say, changed, chatter),
        *(elicit_raw, elicit_many, elicit_impatiently, elicit_with_progress, sample, roots, ping_client),
        *(rendezvous, gate, late, forever),
    ]
    return {getattr(function, "__name__", ""): function for function in functions}


def _calls(
    tools: Mapping[str, ToolFunction],
) -> Callable[[Context, types.CallToolRequestParams], Awaitable[types.CallToolResult]]:
    async def call(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name not in tools:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}")
        result = await tools[params.name](ctx, params.arguments or {})
        if isinstance(result, str):
            return types.CallToolResult(content=[types.TextContent(text=result)])
        return result

    return call


def _page(cursor: str | None) -> tuple[int, str | None]:
    try:
        start = int(cursor or 0)
    except ValueError as error:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Invalid cursor: {cursor}") from error
    following = start + PAGE
    return start, str(following) if following < len(NAMES) else None


async def _list_tools(_: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    start, following = _page(params.cursor if params else None)
    tools = [
        types.Tool(name=f"tool-{number}", input_schema=OPEN_SCHEMA) for number in range(start, start + PAGE)
    ]
    return types.ListToolsResult(tools=tools, next_cursor=following)


async def _list_resources(
    _: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    start, following = _page(params.cursor if params else None)
    resources = [types.Resource(uri=uri, name=uri) for uri in NAMES[start : start + PAGE]]
    return types.ListResourcesResult(resources=resources, next_cursor=following)


async def _list_templates(
    _: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    start, following = _page(params.cursor if params else None)
    templates = [types.ResourceTemplate(uri_template=f"test://{start}/{{a}}", name="template")]
    return types.ListResourceTemplatesResult(resource_templates=templates, next_cursor=following)


async def _list_prompts(_: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    start, following = _page(params.cursor if params else None)
    prompts = [
        types.Prompt(name=f"prompt-{start}", arguments=[types.PromptArgument(name="a", required=True)])
    ]
    return types.ListPromptsResult(prompts=prompts, next_cursor=following)


async def _read_resource(_: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri not in NAMES:
        raise MCPError(code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, text=f"contents of {uri}")])


async def _get_prompt(_: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    if params.name != "prompt-0":
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown prompt: {params.name}")
    content = types.TextContent(text=json.dumps(params.arguments))
    return types.GetPromptResult(
        description="a prompt", messages=[types.PromptMessage(role="user", content=content)]
    )


async def _complete(_: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    values = [f"{params.argument.value}{number}" for number in range(3)]
    return types.CompleteResult(completion=types.Completion(values=values, total=30, has_more=True))


def _subscriber(
    notebook: Notebook,
) -> Callable[[Context, types.SubscribeRequestParams], Awaitable[types.EmptyResult]]:
    async def subscribe(_: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        notebook.write(kind="subscribed", uri=str(params.uri))
        return types.EmptyResult()

    return subscribe


def _unsubscriber(
    notebook: Notebook,
) -> Callable[[Context, types.UnsubscribeRequestParams], Awaitable[types.EmptyResult]]:
    async def unsubscribe(_: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        notebook.write(kind="unsubscribed", uri=str(params.uri))
        return types.EmptyResult()

    return unsubscribe
