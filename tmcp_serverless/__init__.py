"""Python MCP servers on functions and containers: every request on another process, nothing lost.

Importing the package opens nothing and imports no driver; each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmcp_serverless.config import Settings
    from tmcp_serverless.errors import (
        ConfigurationError,
        InvalidCursorError,
        LimitReachedError,
        SchemaError,
        SessionNotFoundError,
        StoreUnavailableError,
        TmcpError,
    )
    from tmcp_serverless.handler import Handler, create_handler
    from tmcp_serverless.handshake import HttpSseTransport, HttpTransport
    from tmcp_serverless.http import PLATFORM_EXTENSION, HttpOptions, OriginPolicy, Platform
    from tmcp_serverless.marks import replayable
    from tmcp_serverless.notifier import Notifier
    from tmcp_serverless.overrides import SettingsOverrides
    from tmcp_serverless.postgres import (
        Database,
        PostgresInfoSessionManager,
        PostgresKeyStore,
        PostgresStreamSessionManager,
        TableNames,
    )
    from tmcp_serverless.sessions import (
        CloseReason,
        EventTopic,
        InfoSessionManager,
        InMemoryEventTopic,
        InMemoryInfoSessionManager,
        InMemoryKeyStore,
        InMemoryStreamSessionManager,
        KeyStore,
        SessionManagers,
        SessionRecord,
        StoredEvent,
        StreamController,
        StreamSessionManager,
    )
    from tmcp_serverless.subscription_bus import PostgresSubscriptionBus

    __version__: str

_HOMES = {
    "config": ("Settings",),
    "errors": (
        "ConfigurationError",
        "InvalidCursorError",
        "LimitReachedError",
        "SchemaError",
        "SessionNotFoundError",
        "StoreUnavailableError",
        "TmcpError",
    ),
    "handler": ("Handler", "create_handler"),
    "notifier": ("Notifier",),
    "overrides": ("SettingsOverrides",),
    "postgres": (
        "Database",
        "PostgresInfoSessionManager",
        "PostgresKeyStore",
        "PostgresStreamSessionManager",
        "TableNames",
    ),
    "marks": ("replayable",),
    "sessions": (
        "CloseReason",
        "EventTopic",
        "InMemoryEventTopic",
        "InMemoryInfoSessionManager",
        "InMemoryKeyStore",
        "InMemoryStreamSessionManager",
        "InfoSessionManager",
        "KeyStore",
        "SessionManagers",
        "SessionRecord",
        "StoredEvent",
        "StreamController",
        "StreamSessionManager",
    ),
    "subscription_bus": ("PostgresSubscriptionBus",),
    "handshake": ("HttpTransport", "HttpSseTransport"),
    "http": ("PLATFORM_EXTENSION", "HttpOptions", "OriginPolicy", "Platform"),
}

__all__ = [
    "PLATFORM_EXTENSION",
    "CloseReason",
    "ConfigurationError",
    "Database",
    "EventTopic",
    "Handler",
    "HttpOptions",
    "HttpSseTransport",
    "HttpTransport",
    "InMemoryEventTopic",
    "InMemoryInfoSessionManager",
    "InMemoryKeyStore",
    "InMemoryStreamSessionManager",
    "InfoSessionManager",
    "InvalidCursorError",
    "KeyStore",
    "LimitReachedError",
    "Notifier",
    "OriginPolicy",
    "Platform",
    "PostgresInfoSessionManager",
    "PostgresKeyStore",
    "PostgresStreamSessionManager",
    "PostgresSubscriptionBus",
    "SchemaError",
    "SessionManagers",
    "SessionNotFoundError",
    "SessionRecord",
    "Settings",
    "SettingsOverrides",
    "StoreUnavailableError",
    "StoredEvent",
    "StreamController",
    "StreamSessionManager",
    "TableNames",
    "TmcpError",
    "__version__",
    "create_handler",
    "replayable",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"tmcp_serverless.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # nearly nobody asks

    try:
        return version("tmcp-serverless")
    except PackageNotFoundError:
        return "unknown"  # it was copied, and not installed


def __dir__() -> list[str]:
    return sorted(__all__)
