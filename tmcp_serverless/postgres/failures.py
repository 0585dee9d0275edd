"""Driver errors and their meanings. No other module tells them apart."""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import asyncpg

from tmcp_serverless.errors import ConfigurationError, SchemaError, StoreUnavailableError, TmcpError
from tmcp_serverless.postgres.sqlstates import meaning_of

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "ALREADY_THERE",
    "FROM_DATABASE",
    "LOST_LINK",
    "POOLED_STATEMENT",
    "REFUSED_LOGIN",
    "REFUSED_SETTING",
    "ROLLED_BACK",
    "CrowdedError",
    "RingingError",
    "is_crowded",
    "is_healthy_after",
    "is_queue_full",
    "raise_translated",
    "schema_error",
    "translated_connect_errors",
]

LOST_LINK = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.IdleSessionTimeoutError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""Errors of asyncpg when the link to the database is gone, or the database is going, full or starting.

A database that takes no writes is no longer the one that was connected to: after a failover it is a standby.
"""

FROM_DATABASE = (asyncpg.PostgresError, *LOST_LINK)
"""All errors of the driver."""

ROLLED_BACK = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.exceptions.SnapshotTooOldError,
)
"""Errors of a statement that was rolled back for the sake of another: it can simply be run again."""

ALREADY_THERE = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateFunctionError,
)
"""Errors of DDL when a table, index, type or function of that name exists."""

POOLED_STATEMENT = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""Errors of a prepared statement behind a pooler in transaction mode that does not support them."""

REFUSED_LOGIN = (asyncpg.InvalidAuthorizationSpecificationError,)
"""Errors of connecting when user or password are wrong, `InvalidPasswordError` among them."""

REFUSED_SETTING = (
    asyncpg.UndefinedObjectError,
    asyncpg.ProtocolViolationError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InsufficientPrivilegeError,
)
"""Errors of connecting when the server, or a pooler before it, does not take a setting at the start."""

_NAMELESS = re.compile(
    r"no such (?:user|database)|authentication failed|not allowed in pg_hba", re.IGNORECASE
)
"""The texts of refusals without a class of their own in poolers (08P01)."""

_CROWDED = re.compile(
    r"no more connections allowed|max client connections|MaxClients|too many", re.IGNORECASE
)


class CrowdedError(StoreUnavailableError):
    """The server, or a pooler, grants no further connection now."""


class RingingError(StoreUnavailableError):
    """The server's NOTIFY queue is full: statements that ring are not committed."""


_INTERNAL = (asyncpg.PostgresSystemError, asyncpg.InternalServerError)
"""Faults within the database, or a pooler. Some poolers have no other class for anything (XX000)."""

_BROKEN = (*LOST_LINK, *POOLED_STATEMENT, *_INTERNAL)

_STARTED_WITH = {
    "synchronous_commit": "TMCP_SYNCHRONOUS_COMMIT",
    "idle_session_timeout": "TMCP_DATABASE_IDLE_SECONDS",
}

_WRONG_DSN = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ClientConfigurationError,
    ssl.SSLCertVerificationError,
    *REFUSED_LOGIN,
)


def schema_error(error: BaseException | str) -> SchemaError:
    """Return the error that names the command that makes the tables."""
    return SchemaError(
        f"the tables of tmcp_serverless are missing or older than this release ({error}); "
        "run `tmcp-serverless migrate`, or allow it: TMCP_CREATE_TABLES=true"
    )


def is_crowded(error: BaseException) -> bool:
    """Return true if a connection was refused because there are enough of them already.

    Poolers have other classes for it than the server: pgbouncer 08P01, Supavisor XX000.
    """
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return True
    vague = isinstance(error, (asyncpg.ProtocolViolationError, *_INTERNAL))
    return vague and _CROWDED.search(str(error)) is not None


def is_queue_full(error: BaseException) -> bool:
    """Return true if a statement was rolled back because it rings, and the NOTIFY queue is full."""
    if not isinstance(error, asyncpg.ProgramLimitExceededError):
        return False
    # The text may be in any language; the function's name is always the same.
    return getattr(error, "server_source_function", None) == "PreCommit_Notify" or "NOTIFY" in str(error)


def is_healthy_after(error: BaseException) -> bool:
    """Return true if a connection can be used again: the server refused the statement, and nothing else."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, _BROKEN)


def raise_translated(error: BaseException, setting: str) -> NoReturn:
    """Raise the kit's error for a statement's failure; the error itself if the statement is wrong."""
    meant: TmcpError | None = None
    if is_queue_full(error):
        meant = RingingError(
            "the server's NOTIFY queue is full; end the session that LISTENs and stays in a transaction "
            f"(pg_stat_activity, pg_notification_queue_usage()): {error!r}"
        )
    elif isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        meant = StoreUnavailableError(f"the database takes no writes now (a failover?): {error!r}")
    elif isinstance(error, LOST_LINK):
        meant = StoreUnavailableError(f"the connection to the database was lost: {error!r}")
    elif isinstance(error, asyncpg.PostgresError):
        meant = _meant(error, setting)
    if meant is None:
        raise error
    raise meant from error


def _meant(error: asyncpg.PostgresError, setting: str) -> TmcpError | None:
    match meaning_of(getattr(error, "sqlstate", None)):
        case "busy":
            return StoreUnavailableError(f"the database is too busy: {error!r}")
        case "pooled":
            return StoreUnavailableError(f"a pooler has lost a prepared statement: {error!r}")
        case "outage" if not _is_about_a_value(error):
            return StoreUnavailableError(f"the database could not do it now: {error!r}")
        case "schema":
            return schema_error(error)
        case "configuration":
            return ConfigurationError(_advice(error, setting))
        case _:
            return None


def _is_about_a_value(error: asyncpg.PostgresError) -> bool:
    """Return true if a single value reached a limit, such as a value too long for an index."""
    where: str = getattr(error, "server_source_function", None) or ""
    return isinstance(error, asyncpg.ProgramLimitExceededError) and where.startswith(
        ("index_form_tuple", "_bt_")
    )


def _advice(error: asyncpg.PostgresError, setting: str) -> str:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"the role that {setting} logs in as may not do what is needed ({error}): {_needed(error)}"
    if isinstance(error, (asyncpg.UntranslatableCharacterError, asyncpg.CharacterNotInRepertoireError)):
        return (
            f"the database in {setting} cannot hold every text ({error}): it has to be one of encoding UTF8"
        )
    return f"the database in {setting} does not let the kit do what is needed ({error!r})"


def _needed(error: asyncpg.InsufficientPrivilegeError) -> str:
    if "for function" in str(error):
        return "GRANT it EXECUTE on the functions of tmcp_serverless"
    tables = "SELECT, INSERT, UPDATE and DELETE on the tables of tmcp_serverless"
    return f"GRANT it {tables}, and USAGE on their schema"


@contextmanager
def translated_connect_errors(setting: str) -> Generator[None]:
    """Turn errors of connecting into one sentence that names the setting."""
    try:
        yield
    except ConfigurationError as error:
        if "TMCP_" in str(error) or setting in str(error):
            raise
        # It names a keyword of the connection string, such as `sslmode`.
        raise ConfigurationError(f"{setting}: {error}") from error
    except FROM_DATABASE as error:
        raise _meant_by_refusal(error, setting) from error
    except ValueError as error:
        raise ConfigurationError(f"{setting} is not a Postgres connection string: {error}") from error


def _meant_by_refusal(error: BaseException, setting: str) -> TmcpError:
    said = f"{setting} does not work: {error}"
    if is_crowded(error):
        return CrowdedError(f"{setting} grants no further connection now: {error!r}")
    if isinstance(error, asyncpg.ProtocolViolationError) and _NAMELESS.search(str(error)):
        return ConfigurationError(said)
    if isinstance(error, _WRONG_DSN):
        return ConfigurationError(said)
    if isinstance(error, REFUSED_SETTING):
        is_lost = isinstance(error, LOST_LINK) and "startup parameter" not in str(error)
        return _unreachable(error, setting) if is_lost else ConfigurationError(said)
    if isinstance(error, asyncpg.InvalidParameterValueError):
        named = [variable for name, variable in _STARTED_WITH.items() if f'"{name}"' in str(error)]
        return ConfigurationError(f"{named[0] if named else setting} does not work: {error}")
    # Among them errors without a class of their own in poolers (XX000).
    return _unreachable(error, setting)


def _unreachable(error: BaseException, setting: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"cannot connect to the database in {setting}: {error!r}")
