"""A FastMCP server with the same things as the lowlevel one beside it: what the short tour looks at."""

from fastmcp import Context, FastMCP

from tmcp_serverless import create_handler

MEMO = "memo://latest"

server = FastMCP("counter")


@server.tool
async def count(to: int, ctx: Context) -> str:
    """Count, and say where it is."""
    for number in range(1, to + 1):
        await ctx.info(f"at {number}")
        await ctx.report_progress(number, to)
    await ctx.warning("done")
    return f"counted to {to}"


@server.tool
async def touch() -> str:
    """Tell the subscribers of the memo that it has changed, and everybody that the tools have."""
    await handler.notifier.resource_updated(MEMO)
    await handler.notifier.tools_changed()
    return "touched"


@server.resource(MEMO)
async def memo() -> str:
    return "milk"


@server.prompt
async def greet(name: str) -> str:
    return f"Say hello to {name}."


handler = create_handler(server)
