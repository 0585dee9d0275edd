"""The session managers' contracts, and their in-memory implementations."""

from tmcp_serverless.sessions.contracts import InfoSessionManager, SessionManagers, StreamSessionManager
from tmcp_serverless.sessions.keys import InMemoryKeyStore, KeyStore
from tmcp_serverless.sessions.memory import InMemoryStreamSessionManager
from tmcp_serverless.sessions.memory_info import InMemoryInfoSessionManager
from tmcp_serverless.sessions.records import (
    ANONYMOUS,
    CloseReason,
    Json,
    SessionRecord,
    StoredEvent,
    StreamController,
)

__all__ = [
    "ANONYMOUS",
    "CloseReason",
    "InMemoryInfoSessionManager",
    "InMemoryKeyStore",
    "InMemoryStreamSessionManager",
    "InfoSessionManager",
    "Json",
    "KeyStore",
    "SessionManagers",
    "SessionRecord",
    "StoredEvent",
    "StreamController",
    "StreamSessionManager",
]
