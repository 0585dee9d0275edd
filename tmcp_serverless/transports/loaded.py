"""A session as one request found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmcp_serverless.sessions.records import SessionRecord
    from tmcp_serverless.transports.asgi import Headers

__all__ = ["LoadedSession"]


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """A session's id and what is known of it."""

    id: str
    record: SessionRecord

    @property
    def headers(self) -> Headers:
        """The headers that every answer of the session carries."""
        return [(b"mcp-session-id", self.id.encode())]
