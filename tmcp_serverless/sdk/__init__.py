"""The kit's use of the MCP SDK: the one package that imports its provisional and private parts.

Relied upon, of mcp 2.3 (`tests/test_sdk.py` fails by name when a release changes one of these):

* `mcp.server.runner.ServerRunner(server, connection, lifespan_state, init_options=…)` and its `on_request`
  and `on_notify`: the kernel; it asks the server for `get_request_handler`, `get_notification_handler`,
  `middleware`, `cache_hints`, `server_info_stamp` and `create_initialization_options`, nothing else;
* `mcp.server.runner.aclose_shielded`: closes the connection's exit stack with the handlers' contexts;
* `mcp.server.connection.Connection`: `client_params`, `protocol_version` and `initialized` can be restored;
* `mcp.shared.dispatcher.DispatchContext`: a request's channel (`RunningRequest` is ours);
* `MCPServer.streamable_http_app`, `FastMCP.http_app`: Starlette applications with a route at the MCP path.
  With authentication, the route's application is a `RequireAuthMiddleware`. The server has routes of its own
  if `_custom_starlette_routes` or `_get_additional_http_routes` has any;
* `MCPServer._lowlevel_server`, `FastMCP._mcp_server`: the lowlevel `Server` inside. The names of a server's
  classes tell its kind (`tmcp_serverless.server_kind`);
* `mcp.server._streamable_http_modern.handle_modern_request`: the 2026-07-28 entry. It asks its server for the
  members above and `get_tool_input_schema`;
* `ListenHandler._bus`, `MCPServer._subscriptions`: the bus of the streams, and the bus to publish to; and
  `._streams` and `._max_subscriptions`: the open streams, ended by `close`, and the limit on their number;
* `mcp.shared.subscriptions.event_to_notification` and `event_from_wire`: the streams' events, as messages;
* `RequestStateBoundary._security` and `._audience`: a server's policy for sealing request states; and
  `compact_json(principal_components(token))`, the SDK's name of a user there;
* `ServerSession.send_request`: the way of every question of a handler; and
  `MCPServer._tool_manager.get_tool`, `FastMCP.get_tool`: a tool's `fn`;
* `fastmcp.server.context.set_transport` and `reset_transport`: the value of `ctx.transport`. Without one, a
  FastMCP takes requests without a session for those of one client.
"""

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
