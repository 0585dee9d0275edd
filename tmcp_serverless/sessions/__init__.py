"""The session managers' contracts, and their in-memory implementations."""

from tmcp_serverless.sessions.events import EventTopic, InMemoryEventTopic
from tmcp_serverless.sessions.info import InfoSessionManager
from tmcp_serverless.sessions.keys import InMemoryKeyStore, KeyStore
from tmcp_serverless.sessions.managers import SessionManagers
from tmcp_serverless.sessions.memory_info import InMemoryInfoSessionManager
from tmcp_serverless.sessions.memory_streams import InMemoryStreamSessionManager
from tmcp_serverless.sessions.records import (
    ANONYMOUS,
    CloseReason,
    Json,
    SessionRecord,
    StoredEvent,
    StreamController,
)
from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = [
    "ANONYMOUS",
    "CloseReason",
    "EventTopic",
    "InMemoryEventTopic",
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
