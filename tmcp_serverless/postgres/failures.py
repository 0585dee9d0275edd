"""Which driver errors mean what: the only place that tells them apart."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import asyncpg

from tmcp_serverless.errors import ConfigurationError, SchemaError, StoreUnavailableError

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
    "is_healthy_after",
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
"""What asyncpg raises when the link to the database is gone, or the database is going, full or starting.

One that takes no writes is no longer the one that was connected to: after a failover it is a standby.
"""

FROM_DATABASE = (asyncpg.PostgresError, *LOST_LINK)
"""Whatever comes from the driver."""

_MISSING_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
)
"""What a statement raises when the tables are not there, or are older than it."""

ROLLED_BACK = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""What a statement raises that was rolled back for the sake of another: it can simply be run again."""

ALREADY_THERE = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateFunctionError,
)
"""What DDL raises when a table, index, type or function of that name is there."""

POOLED_STATEMENT = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
"""What a prepared statement raises behind a pooler in transaction mode that does not know about them."""

REFUSED_LOGIN = (asyncpg.InvalidAuthorizationSpecificationError,)
"""What connecting raises when user or password are wrong, `InvalidPasswordError` among them."""

REFUSED_SETTING = (
    asyncpg.UndefinedObjectError,
    asyncpg.ProtocolViolationError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.InsufficientPrivilegeError,
)
"""What connecting raises when the server, or a pooler before it, does not take a setting at the start."""

_INTERNAL = (asyncpg.PostgresSystemError, asyncpg.InternalServerError)
"""What is wrong within the database, or a pooler: some have no class of their own for anything (XX000)."""

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
    """Return the error that says which command makes the tables."""
    return SchemaError(
        f"the tables of tmcp_serverless are missing or older than this release ({error}); "
        "run `tmcp-serverless migrate`, or allow it: TMCP_CREATE_TABLES=true"
    )


def is_healthy_after(error: BaseException) -> bool:
    """Return whether a connection can be used again: the server refused the statement, and nothing else."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(error, _BROKEN)


def raise_translated(error: BaseException, setting: str) -> NoReturn:
    """Raise what a statement's failure means to the caller; the error itself where the statement is wrong."""
    match error:
        case asyncpg.ReadOnlySQLTransactionError():
            meant = StoreUnavailableError(f"the database takes no writes now (a failover?): {error!r}")
        case _ if isinstance(error, LOST_LINK):
            meant = StoreUnavailableError(f"the connection to the database was lost: {error!r}")
        case _ if isinstance(error, ROLLED_BACK):
            meant = StoreUnavailableError(f"the database is too busy: {error!r}")
        case _ if isinstance(error, POOLED_STATEMENT):
            meant = StoreUnavailableError(f"a pooler has lost a prepared statement: {error!r}")
        case _ if isinstance(error, (asyncpg.LockNotAvailableError, *_INTERNAL)):
            meant = StoreUnavailableError(f"the database could not do it now: {error!r}")
        case _ if isinstance(error, _MISSING_SCHEMA):
            meant = schema_error(error)
        case asyncpg.InsufficientPrivilegeError():
            meant = ConfigurationError(
                f"the role that {setting} logs in as may not do what is needed ({error}): {_needed(error)}"
            )
        case _:
            raise error
    raise meant from error


def _needed(error: asyncpg.InsufficientPrivilegeError) -> str:
    if "for function" in str(error):
        return "GRANT it EXECUTE on the functions of tmcp_serverless"
    tables = "SELECT, INSERT, UPDATE and DELETE on the tables of tmcp_serverless"
    return f"GRANT it {tables}, and USAGE on their schema"


@contextmanager
def translated_connect_errors(setting: str) -> Generator[None]:
    """Turn what goes wrong while connecting into one sentence that names the setting."""
    try:
        yield
    except ConfigurationError as error:
        if "TMCP_" in str(error) or setting in str(error):
            raise
        # It names a keyword of the connection string, such as `sslmode`.
        raise ConfigurationError(f"{setting}: {error}") from error
    except _WRONG_DSN as error:
        raise ConfigurationError(f"{setting} does not work: {error}") from error
    except REFUSED_SETTING as error:
        if isinstance(error, LOST_LINK) and "startup parameter" not in str(error):
            raise StoreUnavailableError(f"cannot connect to the database in {setting}: {error!r}") from error
        raise ConfigurationError(f"{setting} does not work: {error}") from error
    except asyncpg.InvalidParameterValueError as error:
        named = [variable for name, variable in _STARTED_WITH.items() if f'"{name}"' in str(error)]
        raise ConfigurationError(f"{named[0] if named else setting} does not work: {error}") from error
    except FROM_DATABASE as error:
        # Among them what poolers have no class of their own for, such as that they are full (XX000).
        raise StoreUnavailableError(f"cannot connect to the database in {setting}: {error!r}") from error
    except ValueError as error:
        raise ConfigurationError(f"{setting} is not a Postgres connection string: {error}") from error
