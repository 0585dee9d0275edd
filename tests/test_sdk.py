"""What the kit relies on of the SDK's provisional and private parts: these fail by name when it changes."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from fastmcp import Context, FastMCP
from fastmcp.server.context import reset_transport, set_transport
from fastmcp.server.http import RequestContextMiddleware
from mcp.server import MCPServer
from mcp.server._streamable_http_modern import handle_modern_request
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import HandlerEntry, Server
from mcp.server.request_state import (
    AESGCMRequestStateCodec,
    RequestStateBoundary,
    authenticated_principal,
)
from mcp.server.runner import ServerRunner
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
    event_from_wire,
    event_to_notification,
)
from mcp.shared.transport_context import TransportContext
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from tmcp_serverless import (
    ConfigurationError,
    InMemoryInfoSessionManager,
    InMemoryStreamSessionManager,
    SessionManagers,
)
from tmcp_serverless.handshake.running_request import RunningRequest
from tmcp_serverless.handshake.session import LoadedSession
from tmcp_serverless.http import HANDSHAKE_VERSIONS, HttpOptions
from tmcp_serverless.modern.events import event_of, message_of
from tmcp_serverless.sdk.server_kind import lowlevel_server, server_kind


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "_")]


def test_server_runner_takes_a_server_a_connection_and_a_lifespan_state() -> None:
    assert parameters(ServerRunner) == ["server", "connection", "lifespan_state", "init_options"]


def test_server_runner_asks_its_server_for_known_members_only() -> None:
    asked = set(re.findall(r"self\.server\.(\w+)", inspect.getsource(ServerRunner)))
    assert asked == {
        "cache_hints",
        "create_initialization_options",
        "get_notification_handler",
        "get_request_handler",
        "middleware",
        "server_info_stamp",
    }


def test_a_connection_can_be_restored() -> None:
    assert parameters(Connection.__init__) == ["outbound", "protocol_version", "session_id", "client_params"]
    for name in ("initialized", "exit_stack", "client_params", "protocol_version"):
        assert name in inspect.getsource(Connection)


async def test_a_running_request_has_every_member_of_a_dispatch_context() -> None:
    running = RunningRequest(
        {"id": 1, "method": "ping"},
        session=LoadedSession.before_initialize("a", principal=""),
        scope={"type": "http", "headers": []},
        managers=SessionManagers(streams=InMemoryStreamSessionManager(), info=InMemoryInfoSessionManager()),
        options=HttpOptions(),
        response=None,
        can_send_requests=False,
    )
    wanted = {name for name in dir(DispatchContext) if not name.startswith("_")}
    assert wanted <= set(dir(running))


def test_messages_carry_their_request_and_the_stream_callbacks() -> None:
    metadata = ServerMessageMetadata(request_context=1, close_sse_stream=None, can_send_request=False)
    assert metadata.request_context == 1
    assert TransportContext(kind="x", can_send_request=True, headers={}).can_send_request


def test_a_handler_entry_is_params_type_and_handler() -> None:
    assert parameters(HandlerEntry) == ["params_type", "handler"]


def test_the_modern_entry_takes_what_we_give_it() -> None:
    assert parameters(handle_modern_request) == [
        "app",
        "security_settings",
        "json_response",
        "lifespan_state",
        "scope",
        "receive",
        "send",
    ]


def test_the_modern_entry_asks_its_server_for_known_members_only() -> None:
    source = inspect.getsource(inspect.getmodule(handle_modern_request) or handle_modern_request)
    assert set(re.findall(r"\bapp\.(\w+)", source)) - {"lifespan"} == {
        "get_request_handler",
        "get_tool_input_schema",
    }


def test_a_listen_handler_and_an_mcpserver_know_their_bus() -> None:
    server: Any = MCPServer("a")
    entry = lowlevel_server(server).get_request_handler("subscriptions/listen")
    assert entry is not None
    handler: Any = entry.handler
    assert type(handler) is ListenHandler
    bus: Any = vars(handler)["_bus"]
    assert type(bus) is InMemorySubscriptionBus
    assert server._subscriptions is bus


def test_a_boundary_knows_its_policy_and_audience() -> None:
    for server in (MCPServer("a"), FastMCP("a")):
        (boundary,) = (
            each for each in lowlevel_server(server).middleware if isinstance(each, RequestStateBoundary)
        )
        private: Any = boundary
        assert type(private._security.codec) is AESGCMRequestStateCodec
        assert private._audience == "a"


def test_a_users_request_states_are_bound_to_the_components_of_its_token() -> None:
    assert "compact_json(principal_components(token))" in inspect.getsource(authenticated_principal)


@pytest.mark.parametrize(
    ("event", "method", "params"),
    [
        (ToolsListChanged(), "notifications/tools/list_changed", None),
        (PromptsListChanged(), "notifications/prompts/list_changed", None),
        (ResourcesListChanged(), "notifications/resources/list_changed", None),
        (ResourceUpdated("note://ż"), "notifications/resources/updated", {"uri": "note://ż"}),
    ],
)
def test_an_event_has_a_message_and_is_read_from_it(event: Any, method: str, params: Any) -> None:
    assert parameters(event_to_notification) == ["event", "meta"]
    assert parameters(event_from_wire) == ["method", "params"]
    message = message_of(event)
    assert message == {"jsonrpc": "2.0", "method": method} | ({"params": params} if params else {})
    assert event_of(message) == event


def test_other_notifications_are_no_events() -> None:
    assert event_of({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}) is None


def test_a_fastmcp_without_a_name_makes_one_up_in_a_known_form() -> None:
    assert re.fullmatch(r"FastMCP-[0-9a-f]{4}", FastMCP().name)


def test_a_fastmcp_asks_by_which_transport_a_request_came() -> None:
    assert parameters(set_transport) == ["transport"]
    assert parameters(reset_transport) == ["token"]
    source = inspect.getsource(vars(Context)["_session_scope_key"])
    assert 'self.transport in ("sse", "streamable-http")' in source


def test_every_question_of_a_session_goes_through_one_method() -> None:
    assert parameters(ServerSession.send_request)[:2] == ["request", "result_type"]
    for name in ("elicit_form", "elicit_url", "create_message", "list_roots", "send_ping"):
        source = inspect.getsource(getattr(ServerSession, name))
        assert "self.send_request(" in source
        assert "_outbound" not in source


async def test_a_tool_knows_its_function() -> None:
    def tool() -> str:
        return ""

    server: Any = MCPServer("a")
    server.tool()(tool)
    assert server._tool_manager.get_tool("tool").fn is tool
    assert server._tool_manager.get_tool("another") is None
    fast: Any = FastMCP("b")
    fast.tool(tool)
    assert (await fast.get_tool("tool")).fn is tool


def test_the_handshake_revisions_are_the_sdks() -> None:
    assert HANDSHAKE_VERSIONS == HANDSHAKE_PROTOCOL_VERSIONS


@pytest.mark.parametrize("server", [MCPServer("a"), FastMCP("b"), Server("c")])
def test_the_lowlevel_server_inside_is_found(server: Any) -> None:
    assert isinstance(lowlevel_server(server), Server)


class OwnServer(MCPServer):
    """Somebody's subclass."""


class OwnFastMCP(FastMCP[Any]):
    """Somebody's subclass."""


class OwnLowlevel(Server[Any]):
    """Somebody's subclass."""


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (MCPServer("a"), "MCPServer"),
        (OwnServer("a"), "MCPServer"),
        (FastMCP("b"), "FastMCP"),
        (OwnFastMCP("b"), "FastMCP"),
        (Server("c"), "lowlevel"),
        (OwnLowlevel("c"), "lowlevel"),
    ],
)
def test_what_kind_of_server_it_is_is_told_by_its_class(server: Any, kind: str) -> None:
    assert server_kind(server) == kind


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (7, r"builtins\.int"),
        (MCPServer, r"the class mcp\.server\.mcpserver\.server\.MCPServer"),
        (inspect, r"builtins\.module"),
    ],
)
def test_what_is_no_server_is_named(what: Any, name: str) -> None:
    expected = rf"not an MCP server: {name} \(expected an object of mcp\.server\.MCPServer, "
    with pytest.raises(ConfigurationError, match=expected):
        lowlevel_server(what)


def test_a_listen_handler_knows_its_streams_and_limits() -> None:
    handler: Any = ListenHandler(InMemorySubscriptionBus(), max_subscriptions=3, max_buffered_events=4)
    assert vars(handler).keys() == {"_bus", "_max_subscriptions", "_max_buffered_events", "_streams"}
    assert type(handler._streams) is set
    source = inspect.getsource(ListenHandler)
    assert set(re.findall(r"self\._streams\.(\w+)", source)) == {"add", "discard"}


@pytest.mark.parametrize("server", [MCPServer("a"), Server("c")])
def test_a_servers_application_has_a_session_manager_that_is_kept_apart(server: Any) -> None:
    private: Any = lowlevel_server(server)
    assert private._session_manager is None
    server.streamable_http_app(streamable_http_path="/mcp")
    assert private._session_manager is not None


def test_a_fastmcps_application_has_one_middleware_unless_settings_say_otherwise() -> None:
    assert [each.cls for each in FastMCP("a").http_app().user_middleware] == [RequestContextMiddleware]
    assert Server("b").streamable_http_app().user_middleware == []
