"""Session as one request found it, and the changes that a request makes to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import LimitReachedError, SessionNotFoundError, StoreUnavailableError
from tmcp_serverless.http import HANDSHAKE_VERSIONS, INTERNAL_ERROR, INVALID_PARAMS, error_answer
from tmcp_serverless.sessions import SessionRecord
from tmcp_serverless.sessions.addresses import is_stream_session_id

if TYPE_CHECKING:
    from mcp.shared.dispatcher import Outbound

    from tmcp_serverless.http import Headers
    from tmcp_serverless.sdk.connection import SessionConnection
    from tmcp_serverless.sessions import InfoSessionManager, Json

__all__ = ["CHANGES", "LoadedSession", "is_offered", "store_change"]

CHANGES = frozenset({"logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""Requests that `store_change` is for."""

_LONGEST_URI_BYTES = 2_000
"""Size that an index entry of Postgres holds, with room to spare."""


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """Session id, with the data that is known of the session."""

    id: str
    record: SessionRecord

    is_http_sse: bool = False
    """`True` if the session is one stream that lives as long as it does: HTTP+SSE."""

    _client_params: dict[bool, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Client's parameters, by `can_send_requests`. They may be long, so all of a batch shares them."""

    @classmethod
    async def load(
        cls, info: InfoSessionManager, id: str, *, principal: str, is_http_sse: bool = False
    ) -> LoadedSession:
        """Load the principal's session, in one round trip.

        Raises:
            SessionNotFoundError: The session is unknown, expired, deleted, or another principal's.

        """
        record = await info.load(id, principal=principal)
        if record is None:
            raise SessionNotFoundError
        return cls(id, record, is_http_sse)

    @classmethod
    def before_initialize(cls, id: str, *, principal: str) -> LoadedSession:
        """Return the session that `initialize` is about to settle: at the revision that all others follow."""
        record = SessionRecord(
            protocol_version=HANDSHAKE_VERSIONS[0],
            client_info={},
            client_capabilities={},
            principal=principal,
        )
        return cls(id, record, is_stream_session_id(id))

    async def still_exists(self, info: InfoSessionManager) -> bool:
        """Return `True` if the session has not been deleted since, and slide its idle clock."""
        return await info.load(self.id, principal=self.record.principal) is not None

    def connection(self, outbound: Outbound, *, can_send_requests: bool) -> SessionConnection:
        """Return the session's connection, as the SDK's kernel knows it. Imports `mcp`."""
        from tmcp_serverless.sdk import connection  # a GET, a DELETE and a reply do without mcp

        if can_send_requests not in self._client_params:
            params = connection.client_params(self.record, can_send_requests=can_send_requests)
            self._client_params[can_send_requests] = params
        return connection.restore_connection(
            self.id, self.record, outbound, self._client_params[can_send_requests]
        )

    @property
    def headers(self) -> Headers:
        """Headers that every response of the session carries."""
        return [] if self.is_http_sse else [(b"mcp-session-id", self.id.encode())]


def is_offered(info: InfoSessionManager, method: str) -> bool:
    """Return `True` if the manager supports the request: `resources/unsubscribe` is optional."""
    return method != "resources/unsubscribe" or info.can_remove_subscriptions


async def store_change(info: InfoSessionManager, id: str, message: Json) -> Json | None:
    """Store the request's change to its session before it is answered; return an error if that failed."""
    params = message["params"]
    try:
        if message["method"] == "logging/setLevel":
            await info.update(id, log_level=params["level"])
            return None
        uri: str = params["uri"]
        if "\0" in uri or len(uri.encode()) > _LONGEST_URI_BYTES:
            text = f"uri has a NUL character or is longer than {_LONGEST_URI_BYTES} bytes"
            return error_answer(message, INVALID_PARAMS, text)
        if message["method"] == "resources/subscribe":
            await info.add_subscription(id, uri)
        else:
            await info.remove_subscription(id, uri)
    except LimitReachedError as error:
        return error_answer(message, INVALID_PARAMS, str(error))
    except StoreUnavailableError:
        return error_answer(message, INTERNAL_ERROR, "The session store cannot be reached; try again")
    return None
