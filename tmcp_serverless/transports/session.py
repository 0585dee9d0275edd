"""A session as one request found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tmcp_serverless.errors import SessionNotFoundError

if TYPE_CHECKING:
    from tmcp_serverless.sessions.contracts import InfoSessionManager
    from tmcp_serverless.sessions.records import SessionRecord
    from tmcp_serverless.transports.asgi import Headers

__all__ = ["LoadedSession"]


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """A session's id and what is known of it."""

    id: str
    record: SessionRecord

    is_stream: bool = False
    """Whether the session is one stream that lives as long as it does: HTTP+SSE."""

    @classmethod
    async def load(
        cls, info: InfoSessionManager, id: str, *, principal: str, is_stream: bool = False
    ) -> LoadedSession:
        """Load the principal's session, in one round trip.

        Raises:
            SessionNotFoundError: It is unknown, expired, deleted, or somebody else's.

        """
        record = await info.load(id, principal=principal)
        if record is None:
            raise SessionNotFoundError
        return cls(id, record, is_stream)

    @property
    def headers(self) -> Headers:
        """The headers that every answer of the session carries."""
        return [] if self.is_stream else [(b"mcp-session-id", self.id.encode())]
