"""Exceptions of the kit, named after the state that the caller is in.

TmcpError
├── ConfigurationError       a setting is wrong; the message names it
│   └── SchemaError          the tables are missing or old; the message names the command
├── StoreUnavailableError    the database cannot be reached now; trying again later may work
├── LimitReachedError        a bound is reached; the message names it and the way out
├── SessionNotFoundError     no such session, or not this principal's
└── InvalidCursorError       a `Last-Event-ID` that this stream never gave out
"""

__all__ = [
    "ConfigurationError",
    "InvalidCursorError",
    "LimitReachedError",
    "SchemaError",
    "SessionNotFoundError",
    "StoreUnavailableError",
    "TmcpError",
]


class TmcpError(Exception):
    """The base of every error that the kit raises on purpose."""


class ConfigurationError(TmcpError):
    """A setting is wrong. The message names the setting and says what to change."""


class SchemaError(ConfigurationError):
    """The tables are missing or older than this release. The message names the command to run."""


class StoreUnavailableError(TmcpError):
    """The database cannot be reached now. Over HTTP: 503 with `Retry-After`."""


class LimitReachedError(TmcpError):
    """A bound of a session or a user is reached. The message names it and the way out. Over HTTP: 429."""


class SessionNotFoundError(TmcpError):
    """No live session has this id, or it belongs to another principal. Over HTTP: 404."""


class InvalidCursorError(TmcpError):
    """A cursor that the stream never gave out. Over HTTP: 400."""
