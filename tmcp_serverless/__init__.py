"""Run a Python MCP server on functions and containers: every request on another process, nothing lost.

Importing the package opens nothing and imports no driver; each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings
    from tmcp_serverless.errors import (
        ConfigurationError,
        InvalidCursorError,
        SchemaError,
        SessionNotFoundError,
        StoreUnavailableError,
        TmcpError,
    )
    from tmcp_serverless.handler import Handler, create_handler
    from tmcp_serverless.marks import replayable
    from tmcp_serverless.notifier import Notifier
    from tmcp_serverless.postgres import (
        Database,
        PostgresInfoSessionManager,
        PostgresStreamSessionManager,
        PostgresSubscriptionBus,
        TableNames,
    )
    from tmcp_serverless.sessions import (
        CloseReason,
        InfoSessionManager,
        InMemoryInfoSessionManager,
        InMemoryStreamSessionManager,
        SessionManagers,
        SessionRecord,
        StoredEvent,
        StreamController,
        StreamSessionManager,
    )
    from tmcp_serverless.transports import Host, HttpTransport, SseTransport

_HOMES = {
    "config": ("Settings",),
    "errors": (
        "ConfigurationError",
        "InvalidCursorError",
        "SchemaError",
        "SessionNotFoundError",
        "StoreUnavailableError",
        "TmcpError",
    ),
    "handler": ("Handler", "create_handler"),
    "notifier": ("Notifier",),
    "postgres": (
        "Database",
        "PostgresInfoSessionManager",
        "PostgresStreamSessionManager",
        "PostgresSubscriptionBus",
        "TableNames",
    ),
    "marks": ("replayable",),
    "sessions": (
        "CloseReason",
        "InMemoryInfoSessionManager",
        "InMemoryStreamSessionManager",
        "InfoSessionManager",
        "SessionManagers",
        "SessionRecord",
        "StoredEvent",
        "StreamController",
        "StreamSessionManager",
    ),
    "transports": ("Host", "HttpTransport", "SseTransport"),
}

__all__ = [
    "CloseReason",
    "ConfigurationError",
    "Database",
    "Handler",
    "Host",
    "HttpTransport",
    "InMemoryInfoSessionManager",
    "InMemoryStreamSessionManager",
    "InfoSessionManager",
    "InvalidCursorError",
    "Notifier",
    "PostgresInfoSessionManager",
    "PostgresStreamSessionManager",
    "PostgresSubscriptionBus",
    "SchemaError",
    "SessionManagers",
    "SessionNotFoundError",
    "SessionRecord",
    "Settings",
    "SseTransport",
    "StoreUnavailableError",
    "StoredEvent",
    "StreamController",
    "StreamSessionManager",
    "TableNames",
    "TmcpError",
    "create_handler",
    "replayable",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tmcp_serverless.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
