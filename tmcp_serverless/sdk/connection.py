"""A session's connection, as the SDK's kernel knows it, and its principal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp.server.auth.provider import principal_components
from mcp.server.connection import Connection
from mcp.server.runner import aclose_shielded
from mcp_types import InitializeRequestParams
from mcp_types.version import LATEST_HANDSHAKE_VERSION

from tmcp_serverless.sessions import ANONYMOUS

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from mcp.shared.dispatcher import Outbound

    from tmcp_serverless.http import Scope
    from tmcp_serverless.sessions import SessionRecord

__all__ = [
    "SessionConnection",
    "client_params",
    "new_connection",
    "principal_of",
    "restore_connection",
]


class SessionConnection(Connection):
    """A session's connection for one message. It knows if a handler has taken its exit stack; few do."""

    _own_stack: AsyncExitStack
    _stack_taken = False

    @property
    def exit_stack(self) -> AsyncExitStack:
        """The stack that handlers push on."""
        self._stack_taken = True
        return self._own_stack

    @exit_stack.setter
    def exit_stack(self, stack: AsyncExitStack) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._own_stack = stack

    async def leave(self) -> None:
        """Close the exit stack, if a handler has taken it."""
        if self._stack_taken:
            await aclose_shielded(self)


def new_connection(session_id: str, outbound: Outbound) -> SessionConnection:
    """Return the connection of a session that `initialize` is about to make."""
    return SessionConnection(outbound, protocol_version=LATEST_HANDSHAKE_VERSION, session_id=session_id)


_NEED_REPLIES = frozenset({"elicitation", "roots", "sampling"})


def client_params(record: SessionRecord, *, can_send_requests: bool) -> InitializeRequestParams | None:
    """Return the client's params of `initialize`; `None` before that.

    If the client cannot be sent requests, the capabilities that need its replies are left out: a handler that
    looks before it asks finds another way.
    """
    if not record.client_info:  # Only a session of HTTP+SSE exists before `initialize`.
        return None
    capabilities = record.client_capabilities
    if not can_send_requests:
        capabilities = {name: value for name, value in capabilities.items() if name not in _NEED_REPLIES}
    params = {
        "protocolVersion": record.protocol_version,
        "capabilities": capabilities,
        "clientInfo": record.client_info,
    }
    return InitializeRequestParams.model_validate(params, by_name=False)


def restore_connection(
    session_id: str, record: SessionRecord, outbound: Outbound, params: InitializeRequestParams | None
) -> SessionConnection:
    """Return the connection of a session as `initialize` left it, or as it is before that.

    `params`: the session's `client_params`.
    """
    if params is None:
        connection = new_connection(session_id, outbound)
    else:
        connection = SessionConnection(
            outbound,
            protocol_version=record.protocol_version,
            session_id=session_id,
            client_params=params,
        )
    if record.initialized:
        connection.initialized.set()
    return connection


def principal_of(scope: Scope) -> str:
    """Return the principal that the authentication before us found; the anonymous one otherwise."""
    user = scope.get("user")
    token = getattr(user, "access_token", None)
    if token is not None:
        client_id, issuer, subject = principal_components(token)
        return json.dumps([issuer, client_id, subject])
    if getattr(user, "is_authenticated", False):
        return json.dumps([None, None, str(getattr(user, "identity", "") or getattr(user, "username", ""))])
    return ANONYMOUS
