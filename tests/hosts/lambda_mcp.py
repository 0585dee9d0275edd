"""An MCP server as a Lambda function: `tests.hosts.lambda_mcp.handler`."""

from __future__ import annotations

from typing import Any

from tests.support.servers import small_server
from tmcp_serverless import create_handler

handler = create_handler(small_server())


@handler.on_event
async def on_event(event: Any, context: Any) -> Any:
    if event.get("source") == "aws.events":
        return {"swept": event["source"], "name": context.function_name}
    return None
