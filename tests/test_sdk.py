"""What the kit relies on of the SDK's provisional and private parts: these fail by name when it changes."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server._streamable_http_modern import handle_modern_request
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import HandlerEntry, Server
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from tmcp_serverless import ConfigurationError
from tmcp_serverless.sdk import Call, lowlevel_server
from tmcp_serverless.transports.versions import HANDSHAKE_VERSIONS


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


async def test_a_call_has_every_member_of_a_dispatch_context() -> None:
    async def nowhere(_: Any) -> None: ...

    call = Call({"type": "http", "headers": []}, 1, None, emit=nowhere)
    wanted = {name for name in dir(DispatchContext) if not name.startswith("_")}
    assert wanted <= set(dir(call))


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


def test_the_handshake_revisions_are_the_sdks() -> None:
    assert HANDSHAKE_VERSIONS == HANDSHAKE_PROTOCOL_VERSIONS


@pytest.mark.parametrize("server", [MCPServer("a"), FastMCP("b"), Server("c")])
def test_the_lowlevel_server_inside_is_found(server: Any) -> None:
    assert isinstance(lowlevel_server(server), Server)


def test_what_is_no_server_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"not an MCP server: builtins\.int"):
        lowlevel_server(7)
