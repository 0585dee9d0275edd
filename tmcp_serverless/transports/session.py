"""Session as one request found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import SessionNotFoundError

if TYPE_CHECKING:
    from mcp.server.connection import Connection
    from mcp.shared.dispatcher import Outbound

    from tmcp_serverless.sessions.info import InfoSessionManager
    from tmcp_serverless.sessions.records import SessionRecord
    from tmcp_serverless.transports.asgi import Headers

__all__ = ["LoadedSession"]


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """Session id, with the data that is known of the session."""

    id: str
    record: SessionRecord

    is_stream: bool = False
    """`True` if the session is one stream that lives as long as it does: HTTP+SSE."""

    _client_params: dict[bool, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Client's parameters, by `can_ask`. They may be long, so all of a batch shares them."""

    @classmethod
    async def load(
        cls, info: InfoSessionManager, id: str, *, principal: str, is_stream: bool = False
    ) -> LoadedSession:
        """Load the principal's session, in one round trip.

        Raises:
            SessionNotFoundError: The session is unknown, expired, deleted, or another principal's.

        """
        record = await info.load(id, principal=principal)
        if record is None:
            raise SessionNotFoundError
        return cls(id, record, is_stream)

    def connection(self, outbound: Outbound, *, can_ask: bool) -> Connection:
        """Return the session's connection, as the SDK's kernel knows it. Imports `mcp`."""
        from tmcp_serverless import sdk  # noqa: PLC0415 - a GET, a DELETE and an answer do without mcp

        if can_ask not in self._client_params:
            self._client_params[can_ask] = sdk.client_params(self.record, can_ask=can_ask)
        return sdk.restore_connection(self.id, self.record, outbound, self._client_params[can_ask])

    @property
    def headers(self) -> Headers:
        """Headers that every response of the session carries."""
        return [] if self.is_stream else [(b"mcp-session-id", self.id.encode())]
