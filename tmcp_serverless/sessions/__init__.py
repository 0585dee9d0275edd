"""The session managers' contracts, and their in-memory implementations."""

from tmcp_serverless.sessions.events import EventTopic, InMemoryEventTopic
from tmcp_serverless.sessions.info import InfoSessionManager
from tmcp_serverless.sessions.keys import InMemoryKeyStore, KeyStore
from tmcp_serverless.sessions.managers import SessionManagers
from tmcp_serverless.sessions.memory_info import InMemoryInfoSessionManager
from tmcp_serverless.sessions.memory_streams import InMemoryStreamSessionManager
from tmcp_serverless.sessions.pump import Page, Pump, Turns
from tmcp_serverless.sessions.records import (
    ANONYMOUS,
    CloseReason,
    Cursor,
    Json,
    NotWrittenError,
    SessionRecord,
    StoredEvent,
    StreamController,
    refuse_nul,
)
from tmcp_serverless.sessions.send_order import SendOrder
from tmcp_serverless.sessions.stream_share import StreamShare
from tmcp_serverless.sessions.streams import StreamSessionManager

__all__ = [
    "ANONYMOUS",
    "CloseReason",
    "Cursor",
    "EventTopic",
    "InMemoryEventTopic",
    "InMemoryInfoSessionManager",
    "InMemoryKeyStore",
    "InMemoryStreamSessionManager",
    "InfoSessionManager",
    "Json",
    "KeyStore",
    "NotWrittenError",
    "Page",
    "Pump",
    "SendOrder",
    "SessionManagers",
    "SessionRecord",
    "StoredEvent",
    "StreamController",
    "StreamSessionManager",
    "StreamShare",
    "Turns",
    "refuse_nul",
]
