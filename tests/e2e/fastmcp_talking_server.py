"""The FastMCP of the unit tests, on processes of their own; its tools ask, and tell what has changed."""

from tests.support.fast_server import NOTE, Stage, fast_server
from tmcp_serverless import create_handler

server = fast_server(Stage())


@server.tool
async def touch() -> str:
    """Tell the subscribers of the note that it has changed, and everybody that the tools have."""
    await handler.notifier.resource_updated(NOTE)
    await handler.notifier.tools_changed()
    return "touched"


handler = create_handler(server)
