"""The kit's use of the MCP SDK: the package that imports its provisional and private parts.

Private names are in `private.py`. Public, but provisional or for the SDK's own use (mcp 2.3, FastMCP 4.0;
`tests/test_sdk.py` fails by name when a release changes one of these):

* `mcp.server.runner.ServerRunner(server, connection, lifespan_state, init_options=…)` and its `on_request`
  and `on_notify`: the kernel; it asks the server for `get_request_handler`, `get_notification_handler`,
  `middleware`, `cache_hints`, `server_info_stamp` and `create_initialization_options`, nothing else;
* `mcp.server.runner.aclose_shielded`: closes the connection's exit stack with the handlers' contexts;
* `mcp.server.connection.Connection`: `client_params`, `protocol_version` and `initialized` can be restored;
* `mcp.shared.dispatcher.DispatchContext`: a request's channel (`RunningRequest` is ours);
* `MCPServer.streamable_http_app`, `FastMCP.http_app`: Starlette applications with a route at the MCP path.
  With authentication, the route's application is a `RequireAuthMiddleware`;
* `mcp.shared.subscriptions.event_to_notification` and `event_from_wire`: the streams' events, as messages;
* `compact_json(principal_components(token))`: the SDK's name of a user in a request state;
* `ServerSession.send_request`: the way of every server request of a handler. `FastMCP.get_tool`: a tool's
  `fn`;
* `fastmcp.server.context.set_transport` and `reset_transport`: the value of `ctx.transport`. Without one, a
  FastMCP takes requests without a session for those of one client.
"""
