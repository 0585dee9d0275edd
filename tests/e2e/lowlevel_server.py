"""A lowlevel `Server`, with every handler written out: what the short tour looks at."""

from typing import Any

import mcp_types as types
from mcp.server import Server, ServerRequestContext

from tmcp_serverless import create_handler

MEMO = "memo://latest"

Context = ServerRequestContext[dict[str, Any]]
Page = types.PaginatedRequestParams | None


async def list_tools(_ctx: Context, _page: Page) -> types.ListToolsResult:
    to = {"type": "object", "properties": {"to": {"type": "integer"}}, "required": ["to"]}
    return types.ListToolsResult(
        tools=[
            types.Tool(name="count", input_schema=to),
            types.Tool(name="touch", input_schema={"type": "object"}),
        ]
    )


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    if params.name == "touch":
        await handler.notifier.resource_updated(MEMO)
        await handler.notifier.tools_changed()
        return types.CallToolResult(content=[types.TextContent(text="touched")])
    to = int((params.arguments or {})["to"])
    for number in range(1, to + 1):
        await log(ctx, "info", f"at {number}")
        await ctx.session.report_progress(number, to)
    await log(ctx, "warning", "done")
    return types.CallToolResult(content=[types.TextContent(text=f"counted to {to}")])


async def log(ctx: Context, level: types.LoggingLevel, text: str) -> None:
    notice = types.LoggingMessageNotificationParams(level=level, data=text)
    await ctx.session.send_notification(
        types.LoggingMessageNotification(params=notice), related_request_id=ctx.request_id
    )


async def list_resources(_ctx: Context, _page: Page) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri=MEMO, name="memo")])


async def read_resource(_ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text="milk")])


async def list_prompts(_ctx: Context, _page: Page) -> types.ListPromptsResult:
    return types.ListPromptsResult(prompts=[types.Prompt(name="greet")])


async def get_prompt(_ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    text = types.TextContent(text=f"Say hello to {(params.arguments or {})['name']}.")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=text)])


async def accept(_ctx: Context, _params: Any) -> types.EmptyResult:
    """Say yes: the kit remembers what a lowlevel server has accepted."""
    return types.EmptyResult()


server = Server(
    "counter",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_read_resource=read_resource,
    on_subscribe_resource=accept,
    on_unsubscribe_resource=accept,
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
)
server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
handler = create_handler(server)
