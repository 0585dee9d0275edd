"""What the kit takes from the MCP SDK: the one package that imports its provisional and private parts.

Relied upon, of mcp 2.3 (`tests/test_sdk.py` fails by name when a release changes one of these):

* `mcp.server.runner.ServerRunner(server, connection, lifespan_state, init_options=…)` and its `on_request`
  and `on_notify`: the kernel; it asks the server for `get_request_handler`, `get_notification_handler`,
  `middleware`, `cache_hints`, `server_info_stamp` and `create_initialization_options`, nothing else;
* `mcp.server.runner.aclose_shielded`: ends what handlers pushed on the connection's exit stack;
* `mcp.server.connection.Connection`: `client_params`, `protocol_version` and `initialized` can be restored;
* `mcp.shared.dispatcher.DispatchContext`: what a request talks through (`Call` is ours);
* `MCPServer.streamable_http_app`, `FastMCP.http_app`: Starlette applications with a route at the MCP path,
  whose application is a `RequireAuthMiddleware` where there is authentication; and `_custom_starlette_routes`
  and `_get_additional_http_routes`, which say whether there are routes;
* `MCPServer._lowlevel_server`, `FastMCP._mcp_server`: the lowlevel `Server` inside; which of these a server
  is, is told by the names of its classes (`tmcp_serverless.server_kind`);
* `mcp.server._streamable_http_modern.handle_modern_request`: the 2026-07-28 entry, which asks its server for
  the members above and `get_tool_input_schema`;
* `ListenHandler._bus`, `MCPServer._subscriptions`: where a server publishes, and its streams hear from; and
  `._streams` and `._max_subscriptions`: the open streams, which `close` ends, and how many there may be;
* `mcp.shared.subscriptions.event_to_notification` and `event_from_wire`: what streams hear of, as messages;
* `RequestStateBoundary._security` and `._audience`: the policy under which a server seals request states; and
  `compact_json(principal_components(token))`, by which the SDK knows its users there;
* `ServerSession.send_request`: what every question of a handler comes through; and
  `MCPServer._tool_manager.get_tool`, `FastMCP.get_tool`: a tool's `fn`;
* `fastmcp.server.context.set_transport` and `reset_transport`: what `ctx.transport` is, and whether a FastMCP
  takes requests without a session for those of one client.
"""

from tmcp_serverless.sdk.call import Call
from tmcp_serverless.sdk.connections import (
    Connection,
    client_params,
    new_connection,
    principal_of,
    restore_connection,
)
from tmcp_serverless.sdk.guard import guarded
from tmcp_serverless.sdk.kernel import Kernel, lowlevel_server
from tmcp_serverless.sdk.listen import connect

__all__ = [
    "Call",
    "Connection",
    "Kernel",
    "client_params",
    "connect",
    "guarded",
    "lowlevel_server",
    "new_connection",
    "principal_of",
    "restore_connection",
]
