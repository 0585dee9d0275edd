"""The smallest server: deployed as it is, on Lambda (`handler`) or Cloud Run (`app`)."""

from mcp.server import MCPServer

from tmcp_serverless import create_handler

server = MCPServer("minimal")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


handler = create_handler(server)  # Lambda: handler(event, context)
app = handler.app  # Cloud Run, uvicorn: an ASGI application
